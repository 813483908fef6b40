//! Accepting, and the orderly end.

use std::{net::TcpListener as StdListener, sync::Arc, time::Duration};

use anyhow::Result;
use sd_notify::NotifyState;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::sleep,
};
use tokio_util::task::TaskTracker;

use crate::{
    arguments::Arguments,
    connection::{self, Answers},
    sockets,
};

/// Serves until SIGTERM and everything accepted by then is finished.
pub(crate) async fn serve(arguments: &Arguments) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        () = sleep(Duration::from_millis(arguments.listen_after_ms)) => {}
        _ = terminate.recv() => return Ok(()),
    }
    if arguments.never_listen {
        terminate.recv().await;
        return Ok(());
    }
    let listeners = sockets::open(arguments)?;
    if arguments.notify {
        sd_notify::notify(&[NotifyState::Ready])?;
    }
    if arguments.never_accept {
        terminate.recv().await;
        return Ok(());
    }
    accept_until(terminate, listeners, Answers::new(arguments)).await
}

async fn accept_until(
    mut terminate: Signal,
    listeners: Vec<StdListener>,
    answers: Answers,
) -> Result<()> {
    let answers = Arc::new(answers);
    let (end, ending) = watch::channel(false);
    let accepting = TaskTracker::new();
    let connections = TaskTracker::new();
    for listener in listeners {
        let listener = TcpListener::from_std(listener)?;
        accepting.spawn(accept(
            listener,
            connections.clone(),
            Arc::clone(&answers),
            ending.clone(),
        ));
    }
    terminate.recv().await;
    end.send_replace(true);
    for tracker in [accepting, connections] {
        tracker.close();
        tracker.wait().await;
    }
    Ok(())
}

async fn accept(
    listener: TcpListener,
    connections: TaskTracker,
    answers: Arc<Answers>,
    mut ending: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            _ = ending.wait_for(|ending| *ending) => return,
            accepted = listener.accept() => accepted,
        };
        // A client that is gone already is no reason to stop.
        if let Ok((stream, _)) = accepted {
            connections.spawn(connection::serve(
                stream,
                Arc::clone(&answers),
                ending.clone(),
            ));
        }
    }
}
