//! Stock nginx, one prefix directory for each generation.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::CommandLine;
use crate::locate;

/// What nginx keeps temporary files of.
const TEMPORARY: [&str; 5] = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];

/// The module that passes connections on, as Debian packages it.
const STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// A generation of nginx.
#[derive(Debug, Clone)]
pub struct Nginx {
    name: String,
    /// What it answers, if not its name.
    answer: Option<String>,
    listen: Vec<String>,
    workers: u32,
    globals: &'static str,
    files: Option<PathBuf>,
    /// To whom requests to `/hold` are passed on.
    holds: Option<String>,
}

impl Nginx {
    /// One worker, no listen line yet.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            answer: None,
            listen: Vec::new(),
            workers: 1,
            globals: "daemon off;",
            files: None,
            holds: None,
        }
    }

    /// Answers this; the name tells its directory.
    #[must_use]
    pub fn answering(self, answer: &str) -> Self {
        Self {
            answer: Some(answer.to_owned()),
            ..self
        }
    }

    /// One more `listen` line, with its options, such as `[::]:8080 ipv6only=off`.
    #[must_use]
    pub fn listen(mut self, line: &str) -> Self {
        self.listen.push(line.to_owned());
        self
    }

    /// So many worker processes.
    #[must_use]
    pub fn workers(self, workers: u32) -> Self {
        Self { workers, ..self }
    }

    /// Serves the files of a directory below `/files/`, by sendfile; texts by gzip.
    #[must_use]
    pub fn files(self, directory: &Path) -> Self {
        Self {
            files: Some(directory.to_owned()),
            ..self
        }
    }

    /// Passes requests to `/hold` on to this server.
    #[must_use]
    pub fn holding(self, server: &str) -> Self {
        Self {
            holds: Some(server.to_owned()),
            ..self
        }
    }

    /// A single process, no master.
    #[must_use]
    pub fn single_process(self) -> Self {
        Self {
            globals: "daemon off; master_process off;",
            ..self
        }
    }

    /// In the background, as nginx must be to exchange its binary: the command ends once it serves.
    #[must_use]
    pub fn daemon(self) -> Self {
        Self {
            globals: "daemon on;",
            ..self
        }
    }

    /// Writes the configuration below `directory` and gives the command line.
    pub fn command(&self, directory: &Path) -> Result<CommandLine> {
        let prefix = directory.join(format!("nginx-{}", self.name));
        fs::create_dir_all(&prefix)?;
        // nginx may run as another user and keeps its pid file here.
        fs::set_permissions(&prefix, Permissions::from_mode(0o777))?;
        let file = prefix.join("nginx.conf");
        fs::write(&file, self.config(&prefix))?;
        let binary = binary().context("nginx is not installed")?;
        let words = [
            &binary,
            Path::new("-p"),
            &prefix,
            Path::new("-c"),
            &file,
            Path::new("-g"),
            Path::new(self.globals),
        ];
        Ok(words
            .iter()
            .map(|word| word.display().to_string())
            .collect())
    }

    fn config(&self, prefix: &Path) -> String {
        let name = self.answer.as_ref().unwrap_or(&self.name);
        let Self {
            listen,
            workers,
            files,
            holds,
            ..
        } = self;
        let holds = holds.as_ref().map_or_else(String::new, |server| {
            format!("        location /hold {{ proxy_pass http://{server}; }}\n")
        });
        let listen = listen
            .iter()
            .map(|line| format!("        listen {line};\n"))
            .collect::<Vec<_>>()
            .concat();
        let temporary = TEMPORARY
            .map(|kind| format!("    {kind}_temp_path {}/{kind};\n", prefix.display()))
            .concat();
        let files = files.as_ref().map_or_else(String::new, |files| {
            format!(
                "        sendfile on;\n        tcp_nopush on;\n        gzip on;\n        gzip_types text/plain;\n        \
                 location /files/ {{ types {{ text/plain txt; }} default_type application/octet-stream; alias {}/; }}\n",
                files.display()
            )
        });
        format!(
            "user root;\nworker_processes {workers};\npid {prefix}/nginx.pid;\nerror_log stderr warn;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n    access_log off;\n    keepalive_requests 1000000;\n{temporary}    \
             server {{\n{listen}{files}{holds}        location / {{\n            default_type text/plain;\n            \
             add_header X-Generation {name};\n            return 200 \"{name}\\n\";\n        }}\n    }}\n}}\n",
            prefix = prefix.display(),
        )
    }
}

/// The command line of one that passes every TCP connection to `address` on to `server`.
pub fn forwarding(directory: &Path, address: &str, server: &str) -> Result<CommandLine> {
    let binary = binary().context("nginx is not installed")?;
    let prefix = directory.join("nginx-stream");
    fs::create_dir_all(&prefix)?;
    let file = prefix.join("nginx.conf");
    fs::write(
        &file,
        format!(
            "load_module {STREAM};\nuser root;\nworker_processes 1;\ndaemon off;\n\
             pid {}/nginx.pid;\nerror_log stderr warn;\nevents {{ worker_connections 4096; }}\n\
             stream {{ server {{ listen {address}; proxy_pass {server}; }} }}\n",
            prefix.display()
        ),
    )?;
    let words = [&binary, Path::new("-p"), &prefix, Path::new("-c"), &file];
    Ok(words.map(|word| word.display().to_string()).to_vec())
}

/// Why it cannot pass connections on here, if so.
pub fn no_stream() -> Option<&'static str> {
    let there = binary().is_some() && Path::new(STREAM).exists();
    (!there).then_some("nginx or its stream module (libnginx-mod-stream) is not installed")
}

/// Where nginx is.
pub fn binary() -> Option<PathBuf> {
    locate::program("nginx")
}
