//! Promise: what is started is what was meant: the program behind its links, and later the same one again.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Result, ensure};
use hotlb_tests::{
    command::{self, Run},
    host::Host,
    locate,
    servers::{CommandLine, Plain},
};

const LIMIT: Duration = Duration::from_secs(30);

/// A server whose library is found beside it only.
const SERVER: &str = r#"
#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int forty_two(void);
int main(void) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(8080)};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (forty_two() != 42 || bind(listener, (void *)&here, sizeof here) || listen(listener, 9)) return 1;
    for (;;) {
        int client = accept(listener, 0, 0);
        char request[500];
        const char *answer = "HTTP/1.0 200 OK\r\n\r\n42\n";
        if (read(client, request, sizeof request) > 0) (void)!write(client, answer, strlen(answer));
        close(client);
    }
}
"#;

/// Compiles `source`.
fn compile(source: &str, to: &Path, options: &[&str]) -> Result<()> {
    let file = to.with_extension("c");
    fs::write(&file, source)?;
    let mut compiler = Command::new("cc");
    compiler.arg("-o").arg(to).arg(&file).args(options);
    command::run(&mut compiler, LIMIT)?.expect_success()?;
    Ok(())
}

/// A program that finds its library by `$ORIGIN` is started by a link, as Debian's java is, as an interpreter, and with
/// a library that only its environment names.
#[test]
fn libraries_beside_the_program() -> Result<()> {
    let host = Host::with_service("listen = [\"0.0.0.0:8080\"]\nready_timeout = \"10s\"")?;
    let place = |name: &str| host.directory().join(name);
    for directory in ["opt", "opt/bin", "opt/lib", "elsewhere"] {
        fs::create_dir(place(directory))?;
    }
    let library = place("opt/lib/libft.so");
    compile(
        "int forty_two(void) { return 42; }",
        &library,
        &["-shared", "-fPIC", "-Wl,-soname,libft.so"],
    )?;
    let beside = format!("-L{}", place("opt/lib").display());
    let linked = [&beside, "-Wl,--no-as-needed", "-lft"];
    let program = place("opt/bin/server");
    let origin = [linked.as_slice(), &["-Wl,-rpath,$ORIGIN/../lib"]].concat();
    compile(SERVER, &program, &origin)?;
    let link = place("elsewhere/server");
    symlink(&program, &link)?;
    host.upgrade("link", &[link.display().to_string()])?;

    let script = place("script");
    fs::write(&script, format!("#!{}\n", link.display()))?;
    let mut executable = Command::new("chmod");
    command::run(executable.arg("755").arg(&script), LIMIT)?.expect_success()?;
    host.upgrade("interpreter", &[script.display().to_string()])?;

    let bare = place("bare");
    compile(SERVER, &bare, &linked)?;
    let run = host.try_deploy("bare", &[bare.display().to_string()])?;
    let run = run.expect_code(1)?;
    let run = run.expect_stderr(&["exited with code 127", "missing shared libraries: libft.so"])?;
    ensure!(
        run.stderr.contains("cannot open shared object"),
        "{}",
        run.describe()
    );
    let preload = format!("LD_PRELOAD={}", library.display());
    let bare = bare.display().to_string();
    let run = host.ok(&["upgrade", "--env", &preload, "--", &bare])?;
    ensure!(run.stdout.contains("is active"), "{}", run.describe());
    Ok(())
}

fn target() -> Result<SocketAddr> {
    Ok("127.0.0.1:8080".parse()?)
}

fn service(keys: &str) -> Result<Host> {
    Host::with_service(&format!(
        "listen = [\"0.0.0.0:8080\"]\nkeep = \"0s\"\nready_timeout = \"10s\"\n{keys}"
    ))
}

/// A server that says `version`, by the program at `program`.
fn by(program: &Path, version: &str) -> Result<CommandLine> {
    let mut line = Plain::new(version).listen("0.0.0.0:8080").command()?;
    if let Some(first) = line.first_mut() {
        *first = program.display().to_string();
    }
    Ok(line)
}

fn upgrade(host: &Host, options: &[&str], generation: &str, server: &[String]) -> Result<Run> {
    let mut arguments = vec!["upgrade", "--generation", generation];
    arguments.extend(options);
    arguments.push("--");
    arguments.extend(server.iter().map(String::as_str));
    host.hotlb(&arguments)
}

/// A release with a program in it.
fn release(host: &Host, name: &str) -> Result<PathBuf> {
    let release = host.directory().join(name);
    fs::create_dir(&release)?;
    fs::copy(locate::plain_server()?, release.join("server"))?;
    Ok(release)
}

/// Another file at the same path, as a package manager puts it there.
fn replace(program: &Path) -> Result<()> {
    let new = program.with_extension("new");
    fs::copy(program, &new)?;
    fs::rename(&new, program)?;
    Ok(())
}

/// The link has moved on; a rollback starts what was started then.
#[test]
fn a_rollback_through_a_link_that_moved() -> Result<()> {
    let host = service("")?;
    let current = host.directory().join("current");
    for version in ["1", "2"] {
        let release = release(&host, version)?;
        let script = format!(
            "#!/bin/sh\nexec {}/server --name v{version} --listen 0.0.0.0:8080\n",
            release.display()
        );
        fs::write(release.join("app"), script)?;
        fs::set_permissions(
            release.join("app"),
            fs::metadata(release.join("server"))?.permissions(),
        )?;
        let _first = fs::remove_file(&current);
        symlink(&release, &current)?;
        let app = current.join("app").display().to_string();
        upgrade(&host, &[], &format!("g{version}"), &[app])?.expect_success()?;
    }
    host.expect_answers(target()?, 3, "v2")?;
    let web = host.ok(&["status"])?;
    ensure!(web.stdout.contains("rollback to: g1\n"), "{}", web.stdout);
    host.ok(&["rollback"])?;
    host.expect_answers(target()?, 3, "v1")
}

/// A program that was updated in place is started again by name only if that is wanted.
#[test]
fn a_rollback_to_a_program_that_changed() -> Result<()> {
    let host = service("")?;
    let program = release(&host, "1")?.join("server");
    upgrade(&host, &[], "g1", &by(&program, "v1")?)?.expect_success()?;
    upgrade(&host, &[], "g2", &by(&locate::plain_server()?, "v2")?)?.expect_success()?;
    replace(&program)?;
    let web = host.ok(&["status"])?;
    let said = "rollback to: g1 (its program has changed)";
    ensure!(web.stdout.contains(said), "{}", web.stdout);
    let json = host.ok(&["status", "-o", "json"])?;
    ensure!(
        json.stdout
            .contains("\"previous_change\": \"its program has changed\""),
        "{}",
        json.stdout
    );
    for arguments in [["rollback"].as_slice(), &["rollback", "--to", "g1"]] {
        host.hotlb(arguments)?
            .expect_code(6)?
            .expect_one_line_error()?
            .expect_stderr(&["its program has changed", "--anyway"])?;
        host.expect_answers(target()?, 3, "v2")?;
    }
    let run = host.ok(&["rollback", "--anyway"])?;
    ensure!(
        run.stderr.contains("its program has changed"),
        "{}",
        run.describe()
    );
    host.expect_answers(target()?, 3, "v1")
}

/// Alone it serves: what stands at its path is started again, and that is said.
#[test]
fn a_way_back_after_an_update_in_place() -> Result<()> {
    let host = service("mode = \"parked\"")?;
    let program = release(&host, "1")?.join("server");
    upgrade(&host, &[], "g1", &by(&program, "v1")?)?.expect_success()?;
    replace(&program)?;
    upgrade(&host, &[], "g2", &["/bin/false".to_owned()])?
        .expect_code(1)?
        .expect_stderr(&[
            "it was rolled back: g1 is active",
            "its program has changed",
        ])?;
    host.expect_answers(target()?, 3, "v1")
}

/// Nobody is ended who could not be started again.
#[test]
fn a_hand_over_that_has_no_way_back() -> Result<()> {
    let host = service("mode = \"parked\"")?;
    let one = release(&host, "1")?;
    let two = release(&host, "2")?;
    upgrade(&host, &[], "g1", &by(&one.join("server"), "v1")?)?.expect_success()?;
    upgrade(&host, &[], "g2", &by(&two.join("server"), "v2")?)?.expect_success()?;
    fs::remove_dir_all(&one)?;
    let web = host.ok(&["status"])?;
    ensure!(
        web.stdout.contains("rollback to: g1 (its program is gone)"),
        "{}",
        web.stdout
    );
    host.hotlb(&["rollback", "--anyway"])?
        .expect_code(6)?
        .expect_stderr(&["g1 cannot be started again", "its program is gone"])?;
    host.expect_answers(target()?, 3, "v2")?;

    fs::remove_dir_all(&two)?;
    upgrade(&host, &[], "g3", &["/bin/false".to_owned()])?
        .expect_code(6)?
        .expect_one_line_error()?
        .expect_stderr(&["g2 cannot be started again", "nothing was changed"])?;
    host.expect_answers(target()?, 3, "v2")?;
    upgrade(&host, &["--anyway"], "g3", &["/bin/false".to_owned()])?
        .expect_code(9)?
        .expect_stderr(&["no generation is active"])?;
    let web = host.ok(&["status"])?;
    ensure!(!web.stdout.contains('#'), "{}", web.stdout);
    Ok(())
}
