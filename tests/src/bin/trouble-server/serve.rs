//! Serving, with what goes wrong.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use hotlb_tests::http;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{sleep, sleep_until},
};

use crate::{
    Arguments,
    trouble::{Trouble, needless, useful},
};

/// Serves for ever.
pub(crate) async fn serve(arguments: Arc<Arguments>, trouble: Arc<Trouble>) -> Result<()> {
    let listener = TcpListener::bind(arguments.listen).await?;
    let requests = Arc::new(AtomicU64::new(0));
    loop {
        if let Some(until) = trouble.deaf() {
            sleep_until(until.into()).await;
        }
        let (stream, _) = listener.accept().await?;
        if trouble.deaf().is_some() {
            // It was accepted as the trouble began.
            if let Some(until) = trouble.deaf() {
                sleep_until(until.into()).await;
            }
        }
        let (arguments, trouble, requests) = (
            Arc::clone(&arguments),
            Arc::clone(&trouble),
            Arc::clone(&requests),
        );
        tokio::spawn(async move {
            // What goes wrong with a connection is its client's business.
            drop(converse(stream, &arguments, &trouble, &requests).await);
        });
    }
}

async fn converse(
    mut stream: TcpStream,
    arguments: &Arguments,
    trouble: &Trouble,
    requests: &AtomicU64,
) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(1024);
    loop {
        let request = loop {
            if let Some(request) =
                http::take_request(&mut buffer).map_err(|e| anyhow::anyhow!("{e}"))?
            {
                break request;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let number = requests.fetch_add(1, Ordering::Relaxed);
        let fate = trouble.fate(number);
        // Some requests have more to do than others.
        let share = 1 + u64::from(number.is_multiple_of(5));
        black_box(useful(arguments.steps * share));
        if fate.burn > 0 {
            black_box(needless(fate.burn));
        }
        sleep(Duration::from_millis(arguments.wait_ms * share) + fate.slow).await;
        if let Some(until) = fate.stall {
            sleep_until(until.into()).await;
        }
        if fate.lost {
            return Ok(());
        }
        let name = &arguments.name;
        let (length, connection) = (
            name.len() + 1,
            if request.closes {
                "close"
            } else {
                "keep-alive"
            },
        );
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: {connection}\r\nX-Generation: {name}\r\n\r\n{name}\n"
        );
        stream.write_all(answer.as_bytes()).await?;
        if request.closes {
            return Ok(());
        }
    }
}
