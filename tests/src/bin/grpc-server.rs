//! `grpc-server`: a server of the tests that answers the health service of gRPC, or has none. It sets no
//! `SO_REUSEPORT` and knows nothing of upgrades.

use std::{net::SocketAddr, process::ExitCode};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tonic::{service::Routes, transport::Server};
use tonic_health::{ServingStatus, server::health_reporter};

#[derive(Debug, Parser)]
#[command(name = "grpc-server")]
struct Arguments {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// What the health service says.
    #[arg(long, value_enum, default_value_t = Says::Serving)]
    says: Says,
    /// The service it says that of [default: the whole server, which is SERVING otherwise].
    #[arg(long, default_value = "")]
    service: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Says {
    /// SERVING.
    Serving,
    /// `NOT_SERVING`.
    NotServing,
    /// UNIMPLEMENTED: there is no health service.
    Unimplemented,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "stderr is where a server complains")]
fn complain(error: &anyhow::Error) {
    eprintln!("grpc-server: {error:#}");
}

fn run(arguments: &Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(arguments))
}

async fn serve(arguments: &Arguments) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let (reporter, health) = health_reporter();
    let status = match arguments.says {
        Says::NotServing => ServingStatus::NotServing,
        Says::Serving | Says::Unimplemented => ServingStatus::Serving,
    };
    reporter
        .set_service_status(&arguments.service, status)
        .await;
    let routes = match arguments.says {
        Says::Unimplemented => Routes::default(),
        Says::Serving | Says::NotServing => Routes::new(health),
    };
    let ended = async move {
        terminate.recv().await;
    };
    let server = Server::builder().add_routes(routes);
    Ok(server.serve_with_shutdown(arguments.listen, ended).await?)
}
