//! Promise: while the journal cannot be written no rollout begins, the traffic stays as it is, a rollback works, and
//! `status` says so; when it can be written again, rollouts work again, and nothing that happened is lost.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use hotlb::fault::FAULTS;
use hotlb_tests::{command::Run, history, host::Host, load::Plan, report, servers::Kind, wait};

const TARGET: &str = "127.0.0.1:8080";
const LIMIT: Duration = Duration::from_secs(15);
/// More writes than a promote has.
const MOST: usize = 30;

struct Scene {
    host: Host,
    target: SocketAddr,
}

impl Scene {
    /// `gen1` is active.
    fn new() -> Result<Self> {
        let scene = Self {
            host: Host::with_service("listen = [\"0.0.0.0:8080\"]")?,
            target: TARGET.parse()?,
        };
        scene.upgrade("gen1")?.expect_success()?;
        Ok(scene)
    }

    fn server(&self, generation: &str) -> Result<Vec<String>> {
        Kind::Plain.command(self.host.directory(), generation, self.target.port())
    }

    fn upgrade(&self, generation: &str) -> Result<Run> {
        let server = self.server(generation)?;
        let mut arguments = vec!["upgrade", "--generation", generation, "--"];
        arguments.extend(server.iter().map(String::as_str));
        self.host.hotlb(&arguments)
    }

    fn restart(&mut self, drill: &str) -> Result<()> {
        self.host.kill_agent()?;
        self.host.start_agent_with(&[(FAULTS, drill)])
    }

    fn expect_active(&self, generation: &str) -> Result<()> {
        let web = self.host.web()?;
        ensure!(web.active.as_deref() == Some(generation), "{web:#?}");
        self.host.expect_answers(self.target, 20, generation)
    }

    /// The warning of `status` about the journal, if there is one.
    fn warning(&self) -> Result<Option<String>> {
        let run = self.host.ok(&["status", "--output", "json"])?;
        let status: serde_json::Value = serde_json::from_str(&run.stdout)?;
        let warnings = status
            .get("warnings")
            .and_then(|w| w.as_array())
            .context("no warnings")?;
        let mut warnings = warnings.iter().filter_map(serde_json::Value::as_str);
        Ok(warnings
            .find(|w| w.contains("journal"))
            .map(ToOwned::to_owned))
    }

    fn wait_no_warning(&self) -> Result<()> {
        wait::until_true("the warning goes", LIMIT, || {
            self.warning().is_ok_and(|warning| warning.is_none())
        })
    }
}

/// The disk is full for one write, at each write of a promote in turn.
#[test]
fn a_full_disk_at_each_write_of_a_promote() -> Result<()> {
    let mut scene = Scene::new()?;
    let load = scene.host.load(Plan::new(scene.target).workers(8))?;
    let mut points = 0_u32;
    for write in 1..MOST {
        let to = format!("c{write}");
        scene.host.deploy(&to, &scene.server(&to)?)?;
        let from = scene.host.web()?.active.context("nobody is active")?;
        scene.restart(&format!("full@{write}+1"))?;
        let before = scene.host.agent_log().len();
        let run = scene.host.hotlb(&["promote", &to])?;
        let expected = match run.code {
            0 => &to,
            7 => &from,
            code => anyhow::bail!("exit code {code}\n{}", run.describe()),
        };
        scene.expect_active(expected)?;
        if run.code == 7 {
            run.clone()
                .expect_one_line_error()?
                .expect_stderr(&["journal", "rollback", "full"])?;
        }
        let log = scene.host.agent_log();
        let hit = log
            .get(before..)
            .unwrap_or_default()
            .contains("failed to record");
        if run.code == 0 && !hit {
            break;
        }
        points += 1;
        // Without a restart.
        scene.wait_no_warning()?;
        history::wait_all_over(&scene.host)?;
        let told = history::last(&scene.host)?;
        let outcome = if run.code == 0 { "done" } else { "rolled_back" };
        ensure!(history::text(&told, "/to/name") == Some(&to), "{told:#}");
        ensure!(
            history::text(&told, "/outcome") == Some(outcome),
            "{told:#}"
        );
        let next = format!("f{write}");
        scene.upgrade(&next)?.expect_success()?;
        scene.expect_active(&next)?;
    }
    ensure!(points > 3, "only {points} writes");
    report::figure("full disk: writes of a promote that were tried", points);
    load.stop()?.expect_none_lost()
}

#[test]
fn a_full_disk_for_good_leaves_the_rollback() -> Result<()> {
    let mut scene = Scene::new()?;
    scene.upgrade("gen2")?.expect_success()?;
    scene.host.wait_state("gen1", &["standby"])?;
    let load = scene.host.load(Plan::new(scene.target).workers(8))?;
    scene.restart("full@1")?;
    let refused = scene.upgrade("gen3")?.expect_code(7)?;
    refused
        .expect_one_line_error()?
        .expect_stderr(&["journal", "full", "rollback"])?;
    let warning = scene.warning()?.context("no warning")?;
    ensure!(
        warning.contains("a rollback to a running generation works"),
        "{warning}"
    );
    scene.expect_active("gen2")?;
    scene.host.ok(&["rollback"])?;
    scene.expect_active("gen1")?;
    let again = scene.host.hotlb(&["rollback"])?;
    ensure!(again.code == 6, "{}", again.describe());
    scene.expect_active("gen1")?;
    scene.host.ok(&["rollback", "--to", "gen2"])?;
    scene.expect_active("gen2")?;
    load.stop()?.expect_none_lost()
}

/// What could not be written down when it happened is written down when that is possible, without a restart; and an
/// agent that starts later has nothing left to undo.
#[test]
fn what_happened_meanwhile_is_written_down_later() -> Result<()> {
    let mut scene = Scene::new()?;
    scene.host.deploy("gen2", &scene.server("gen2")?)?;
    let load = scene.host.load(Plan::new(scene.target).workers(8))?;
    // The first write is that before the word moves.
    scene.restart("full@2+40")?;
    scene.host.promote("gen2")?;
    scene.expect_active("gen2")?;
    let warning = scene.warning()?.context("no warning")?;
    ensure!(warning.contains("full"), "{warning}");
    scene.upgrade("gen3")?.expect_code(7)?;
    scene.host.ok(&["rollback"])?;
    scene.expect_active("gen1")?;
    wait::until_true("the journal works again", LIMIT, || {
        scene.upgrade("gen4").is_ok_and(|run| run.code == 0)
    })?;
    scene.wait_no_warning()?;
    for (kind, to, outcome) in [
        ("promote", "gen2", "done"),
        ("rollback", "gen1", "rolled_back"),
        ("upgrade", "gen4", "done"),
    ] {
        let ended = |rollout: &serde_json::Value| {
            let is = |pointer: &str, word| history::text(rollout, pointer) == Some(word);
            is("/kind", kind) && is("/to/name", to) && is("/outcome", outcome)
        };
        wait::until_true(
            &format!("the {kind} to {to} is written down"),
            LIMIT,
            || history::list(&scene.host).is_ok_and(|list| list.iter().any(ended)),
        )?;
    }
    history::wait_all_over(&scene.host)?;
    scene.host.kill_agent()?;
    scene.host.start_agent()?;
    scene.expect_active("gen4")?;
    scene.upgrade("gen5")?.expect_success()?;
    load.stop()?.expect_none_lost()
}
