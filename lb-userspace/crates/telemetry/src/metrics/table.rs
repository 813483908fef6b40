//! Every metric there is. `docs/user/observe/metrics.md` is written from it.

// long file: a table, a row for each metric.

use super::{
    collect::{
        agent, connections, drain, generation, incidents, latency, profiles, rollouts, steering,
        usage::{self, CPU, MEMORY, MEMORY_PEAK, PRESSURE},
    },
    row::{Metric, Section},
    udp,
};

const SERVICE: &[&str] = &["service"];
const GENERATION: &[&str] = &["service", "generation"];

/// All metrics, in the order in which they are written.
pub(super) fn all() -> impl Iterator<Item = &'static Metric> {
    TABLE.iter().flat_map(|section| section.rows)
}

/// The table.
pub(super) const TABLE: &[Section] = &[
    Section {
        mark: "connections",
        rows: &[
            Metric::counter(
                "hotlb_connections_opened",
                GENERATION,
                "Handshakes completed on a listener of this generation",
                connections::opened,
            ),
            Metric::counter(
                "hotlb_connections_closed",
                GENERATION,
                "Connections of this generation that ended, by either side",
                connections::closed,
            ),
            Metric::counter(
                "hotlb_connections_aborted",
                GENERATION,
                "Subset of closed: went from established to closed at once, a reset by either side",
                connections::aborted,
            ),
            Metric::counter(
                "hotlb_connections_moved_in",
                GENERATION,
                "Connections that the kernel moved here, before they were accepted, from a listener that closed",
                connections::moved_in,
            ),
            Metric::counter(
                "hotlb_connections_moved_out",
                GENERATION,
                "Connections migrated to another listener before accept",
                connections::moved_out,
            ),
            Metric::gauge(
                "hotlb_connections_live",
                GENERATION,
                "Connections open now, those in the accept queue included",
                connections::live,
            ),
            Metric::counter(
                "hotlb_service_connections_opened",
                SERVICE,
                "Handshakes completed on any listener of the service: all generations, forgotten ones too, and parking",
                connections::all_opened,
            ),
            Metric::counter(
                "hotlb_service_connections_closed",
                SERVICE,
                "Connections of the service that ended: all generations, forgotten ones too, and parking",
                connections::all_closed,
            ),
            Metric::counter(
                "hotlb_service_connections_aborted",
                SERVICE,
                "Subset of closed: resets by either side, of all generations, forgotten ones too, and parking",
                connections::all_aborted,
            ),
            Metric::counter(
                "hotlb_connections_lost",
                &["service", "generation", "loss"],
                "Connections of this generation whose client did not get everything, or was refused, by what happened",
                connections::lost,
            ),
            Metric::counter(
                "hotlb_service_connections_lost",
                &["service", "loss"],
                "The same over all generations, forgotten ones too",
                connections::all_lost,
            ),
            Metric::counter(
                "hotlb_received_bytes",
                GENERATION,
                "Bytes that clients sent, of connections of this generation that ended",
                connections::received_bytes,
            ),
            Metric::counter(
                "hotlb_sent_bytes",
                GENERATION,
                "Bytes that clients acknowledged, of connections of this generation that ended",
                connections::sent_bytes,
            ),
            Metric::counter(
                "hotlb_service_received_bytes",
                SERVICE,
                "Bytes that clients sent, over all generations, forgotten ones too",
                connections::all_received_bytes,
            ),
            Metric::counter(
                "hotlb_service_sent_bytes",
                SERVICE,
                "Bytes that clients acknowledged, over all generations, forgotten ones too",
                connections::all_sent_bytes,
            ),
            Metric::gauge(
                "hotlb_parked_connections",
                SERVICE,
                "Connections in the parking listeners, waiting for a generation",
                connections::parked,
            ),
        ],
    },
    Section {
        mark: "latency",
        rows: &[
            Metric::histogram(
                "hotlb_queue_wait_seconds",
                GENERATION,
                "From the handshake to the first byte that the server reads",
                latency::queue_wait,
            ),
            Metric::histogram(
                "hotlb_service_time_seconds",
                GENERATION,
                "From the first byte of a request to the first byte of its answer",
                latency::service_time,
            ),
            Metric::histogram(
                "hotlb_connection_lifetime_seconds",
                GENERATION,
                "From the handshake to the end of the connection",
                latency::lifetime,
            ),
            Metric::histogram(
                "hotlb_service_queue_wait_seconds",
                SERVICE,
                "From the handshake to the first byte that the server reads: all generations, forgotten ones too, and parking",
                latency::all_queue_wait,
            ),
            Metric::histogram(
                "hotlb_service_service_time_seconds",
                SERVICE,
                "From the first byte of a request to the first byte of its answer: all generations, forgotten ones too, and parking",
                latency::all_service_time,
            ),
            Metric::histogram(
                "hotlb_service_connection_lifetime_seconds",
                SERVICE,
                "From the handshake to the end of the connection: all generations, forgotten ones too, and parking",
                latency::all_lifetime,
            ),
        ],
    },
    Section {
        mark: "incidents",
        rows: &[
            Metric::counter(
                "hotlb_incidents",
                SERVICE,
                "Anomalies that were captured in detail and stored: hotlb incidents",
                incidents::kept,
            ),
            Metric::counter(
                "hotlb_windows",
                &["service", "outcome"],
                "Seconds of generations, by what became of them: unscored, dropped, held or captured",
                incidents::windows,
            ),
            Metric::counter(
                "hotlb_screening_seconds",
                SERVICE,
                "How long reading and scoring the windows took the agent",
                incidents::screening,
            ),
        ],
    },
    Section {
        mark: "drain",
        rows: &[
            Metric::gauge(
                "hotlb_drains",
                SERVICE,
                "Generations that are being drained",
                drain::under_way,
            ),
            Metric::gauge(
                "hotlb_drain_remaining_connections",
                GENERATION,
                "Live connections of a generation that is draining or stopping, else 0",
                drain::remaining,
            ),
            Metric::gauge(
                "hotlb_drain_elapsed_seconds",
                GENERATION,
                "How long the drain has taken; only while there is one",
                drain::elapsed,
            ),
            Metric::gauge(
                "hotlb_drain_deadline_seconds",
                GENERATION,
                "Time until what is left is ended; only while it drains",
                drain::deadline,
            ),
        ],
    },
    Section {
        mark: "polite",
        rows: &[
            Metric::gauge(
                "hotlb_polite_connections",
                SERVICE,
                "Connections that are being asked to leave a draining generation",
                drain::leaving,
            ),
            Metric::gauge(
                "hotlb_polite_way",
                &["service", "way"],
                "Always 1: how clients are asked to leave; \"none\" where they cannot be asked, \"off\" where that is configured",
                drain::way,
            ),
            Metric::counter(
                "hotlb_polite_responses",
                &["service", "outcome"],
                "Responses on such connections whose beginning was examined",
                drain::responses,
            ),
        ],
    },
    Section {
        mark: "steering",
        rows: &[
            Metric::counter(
                "hotlb_steering_calls",
                SERVICE,
                "Runs of the steering program, over all listen addresses",
                steering::calls,
            ),
            Metric::counter(
                "hotlb_steering_exits",
                &["service", "exit", "migrating"],
                "How they ended; the sum over all exits and both values of migrating equals the calls",
                steering::exits,
            ),
            Metric::gauge(
                "hotlb_programs_own",
                &["service", "object"],
                "1 if the programs that decide are this agent's, 0 if another release's; whose, by the object's digest, empty if unknown",
                steering::programs,
            ),
            Metric::gauge(
                "hotlb_foreign_programs",
                SERVICE,
                "Listen addresses where a foreign program decides, not hotlb's",
                steering::foreign_programs,
            ),
            Metric::gauge(
                "hotlb_stray_sockets",
                SERVICE,
                "Sockets at the service's ports that are not in its groups, or there without a slot",
                steering::stray_sockets,
            ),
            Metric::gauge(
                "hotlb_groups_usurped",
                SERVICE,
                "The former name of hotlb_foreign_programs, for one release",
                steering::foreign_programs,
            ),
        ],
    },
    udp::SECTION,
    Section {
        mark: "generations",
        rows: &[
            Metric::gauge(
                "hotlb_generation_state",
                &["service", "generation", "state"],
                "1 for the state the generation is in, 0 for the seven others",
                generation::state,
            ),
            Metric::gauge(
                "hotlb_hung_listeners",
                GENERATION,
                "Listeners that have stopped accepting, so that others of their generation get their connections",
                generation::hung_listeners,
            ),
            Metric::gauge(
                "hotlb_hung_seconds",
                GENERATION,
                "How long the active generation has accepted nothing although clients wait; 0 while it does not hang",
                generation::hung_seconds,
            ),
            Metric::counter(
                CPU,
                &["service", "generation", "mode", "source"],
                "CPU time used, by mode: user or system",
                usage::cpu,
            ),
            Metric::gauge(
                MEMORY,
                &["service", "generation", "source"],
                "Memory used: what the cgroup is charged for, or resident memory with source=processes",
                usage::memory,
            ),
            Metric::gauge(
                MEMORY_PEAK,
                &["service", "generation", "source"],
                "The most memory the cgroup was charged for",
                usage::memory_peak,
            ),
            Metric::counter(
                PRESSURE,
                &["service", "generation", "resource", "waiting"],
                "How long some or all (full) of its tasks waited for the resource: cpu, memory or io",
                usage::pressure,
            ),
            Metric::gauge(
                "hotlb_generation_processes",
                GENERATION,
                "Processes of the generation",
                usage::processes,
            ),
            Metric::gauge(
                "hotlb_generation_frozen",
                GENERATION,
                "1 while its processes are frozen, kept for a rollback",
                usage::frozen,
            ),
            Metric::gauge(
                "hotlb_metric_unavailable",
                &["service", "generation", "metric", "resource", "reason"],
                "Always 1: this live generation has no such metric (of this resource), for this reason",
                usage::unavailable,
            ),
            Metric::gauge(
                "hotlb_profile_running",
                SERVICE,
                "1 while profiles are kept: only of services that are configured so",
                profiles::running,
            ),
            Metric::counter(
                "hotlb_profile_cpu_seconds",
                SERVICE,
                "CPU time that keeping profiles has taken since the agent began",
                profiles::cpu,
            ),
            Metric::gauge(
                "hotlb_profile_memory_bytes",
                SERVICE,
                "Memory of the process that keeps profiles, with what is kept and the pages of mapped programs",
                profiles::memory,
            ),
            Metric::counter(
                "hotlb_profile_samples",
                SERVICE,
                "Samples taken for them since the agent began",
                profiles::samples,
            ),
        ],
    },
    Section {
        mark: "rollouts",
        rows: &[
            Metric::counter(
                "hotlb_promotes",
                SERVICE,
                "Generations promoted",
                rollouts::promotes,
            ),
            Metric::counter(
                "hotlb_rollbacks",
                SERVICE,
                "Promotes undone by a rollback",
                rollouts::rollbacks,
            ),
            Metric::counter(
                "hotlb_failovers",
                SERVICE,
                "Times another generation was made active because the active one ended",
                rollouts::failovers,
            ),
            Metric::counter(
                "hotlb_rollouts",
                &["service", "kind", "outcome"],
                "Rollouts that are over",
                rollouts::ended,
            ),
            Metric::gauge(
                "hotlb_rollout_phase",
                &["service", "phase"],
                "1 for the phase of the rollout in progress; 0 everywhere while there is none",
                rollouts::phase,
            ),
            Metric::histogram(
                "hotlb_promote_duration_seconds",
                SERVICE,
                "From the request to the store of the steering word, of rollouts that stored it",
                rollouts::promote_duration,
            ),
            Metric::gauge(
                "hotlb_last_rollout_duration_seconds",
                SERVICE,
                "How long the last rollout that ended took, its drain included",
                rollouts::last_duration,
            ),
            Metric::gauge(
                "hotlb_last_rollout_success",
                SERVICE,
                "1 if the last rollout that ended was done, 0 if it was undone or refused",
                rollouts::last_success,
            ),
            Metric::gauge(
                "hotlb_last_rollout_timestamp_seconds",
                SERVICE,
                "When the last rollout ended, since 1970",
                rollouts::last_ended,
            ),
            Metric::counter(
                "hotlb_hooks",
                &["service", "phase", "outcome"],
                "Hooks that ended, by the phase they belong to",
                rollouts::hooks,
            ),
            Metric::gauge(
                "hotlb_warnings",
                SERVICE,
                "Warnings: the lines beginning with ! in hotlb status",
                rollouts::warnings,
            ),
        ],
    },
    Section {
        mark: "agent",
        rows: &[
            Metric::gauge(
                "hotlb_build_info",
                &["version", "abi"],
                "Always 1; the version of the agent, and that of its pinned maps",
                agent::build_info,
            ),
            Metric::gauge(
                "hotlb_journal_writable",
                &[],
                "0 while the journal cannot be written: new rollouts are refused then",
                agent::journal_writable,
            ),
            Metric::counter(
                "hotlb_put_back",
                &["what"],
                "How often something the agent relies on had vanished and was restored: pins, directory, socket, keeper, ledger, logger",
                agent::put_back,
            ),
            Metric::gauge(
                "hotlb_missing",
                &["what"],
                "1 while such a thing is gone and cannot be restored",
                agent::missing,
            ),
            Metric::counter(
                "hotlb_output_dropped_bytes",
                SERVICE,
                "Output of servers that was dropped, since the agent's runtime directory was made",
                agent::output_dropped,
            ),
            Metric::counter(
                "hotlb_traces_dropped",
                &[],
                "Traces of rollouts that no collector got, since the agent's journal was created",
                agent::traces_dropped,
            ),
            Metric::counter(
                "process_cpu_seconds",
                &[],
                "CPU time of the agent itself",
                agent::cpu,
            ),
            Metric::gauge(
                "process_resident_memory_bytes",
                &[],
                "Resident memory of the agent itself",
                agent::resident,
            ),
            Metric::gauge(
                "process_virtual_memory_bytes",
                &[],
                "Virtual memory of the agent itself",
                agent::virtual_memory,
            ),
            Metric::gauge(
                "process_open_fds",
                &[],
                "File descriptors the agent has open",
                agent::open_fds,
            ),
            Metric::gauge(
                "process_max_fds",
                &[],
                "File descriptors the agent may have; absent without a limit",
                agent::max_fds,
            ),
            Metric::gauge(
                "process_threads",
                &[],
                "Threads of the agent",
                agent::threads,
            ),
            Metric::gauge(
                "process_start_time_seconds",
                &[],
                "When the agent was started, since 1970",
                agent::started,
            ),
        ],
    },
];
