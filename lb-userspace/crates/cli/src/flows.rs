//! `hotlb flows`: which generation each UDP client is with.

use std::{fmt::Write as _, time::Duration};

use clap::Args;
use hotlb_api::{
    client::{Client, ClientError},
    wire::FlowList,
};
use hotlb_sys::reader::printable;

use super::{
    output::Printer,
    table::{lines, plain},
    verbs::{cannot_print, checked},
};

/// `hotlb flows`.
#[derive(Clone, Debug, Args)]
pub struct FlowsArgs {
    /// The service; optional if there is only one.
    #[arg(value_name = "SERVICE")]
    name: Option<String>,
    /// Maximum number of flows to list, latest datagram first.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1000)]
    limit: usize,
}

/// Lists the flows.
pub(super) async fn execute(
    args: &FlowsArgs,
    client: &Client,
    printer: &Printer,
) -> Result<(), ClientError> {
    let service = checked(args.name.as_deref().unwrap_or("-"))?;
    let list = client.flows(service, args.limit).await?;
    printer.value(&list, || table(&list)).map_err(cannot_print)
}

fn table(list: &FlowList) -> String {
    if list.flows.is_empty() {
        return format!("no flows of {} at the moment", printable(&list.service));
    }
    let mut table = plain(["CLIENT", "SERVER", "GENERATION", "AGE", "IDLE"]);
    for flow in &list.flows {
        table.add_row([
            flow.client.to_string(),
            flow.server.to_string(),
            printable(&flow.generation),
            span(flow.age_ms),
            span(flow.idle_ms),
        ]);
    }
    let mut text = lines(&table, "");
    let listed = list.flows.len() as u64;
    if list.total > listed {
        // Writing to a string cannot fail.
        let _infallible = writeln!(
            text,
            " the latest {listed} of {} flows; use --limit N to list more",
            list.total
        );
    }
    text
}

/// To a tenth of a second below a minute, and to the two greatest units above.
fn span(ms: u64) -> String {
    if ms < 60_000 {
        return format!("{}.{}s", ms / 1000, ms % 1000 / 100);
    }
    let whole = humantime::format_duration(Duration::from_secs(ms / 1000)).to_string();
    whole.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use hotlb_api::wire::FlowStatus;

    use super::*;

    #[test]
    fn each_flow_has_a_line_and_what_is_left_out_is_said() {
        let list = FlowList {
            api: 1,
            service: "dns".to_owned(),
            total: 9,
            flows: vec![FlowStatus {
                client: "192.0.2.1:4711".parse().unwrap(),
                server: "192.0.2.2:53".parse().unwrap(),
                generation: "gen7".to_owned(),
                age_ms: 3_723_000,
                idle_ms: 1_290,
            }],
        };
        let text = table(&list);
        for part in [
            "192.0.2.1:4711",
            "192.0.2.2:53",
            "gen7",
            "1h 2m",
            "1.2s",
            "1 of 9",
        ] {
            assert!(text.contains(part), "no {part}: {text}");
        }
        let none = FlowList {
            flows: Vec::new(),
            total: 0,
            ..list
        };
        assert_eq!(table(&none), "no flows of dns at the moment");
    }
}
