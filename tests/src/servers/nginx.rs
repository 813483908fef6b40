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

/// A generation of nginx.
#[derive(Debug, Clone)]
pub struct Nginx {
    name: String,
    listen: Vec<String>,
    workers: u32,
    single: bool,
    files: Option<PathBuf>,
}

impl Nginx {
    /// One worker, no listen line yet.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            listen: Vec::new(),
            workers: 1,
            single: false,
            files: None,
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

    /// A single process, no master.
    #[must_use]
    pub fn single_process(self) -> Self {
        Self {
            single: true,
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
        let globals = if self.single {
            "daemon off; master_process off;"
        } else {
            "daemon off;"
        };
        let binary = binary().context("nginx is not installed")?;
        let words = [
            &binary,
            Path::new("-p"),
            &prefix,
            Path::new("-c"),
            &file,
            Path::new("-g"),
            Path::new(globals),
        ];
        Ok(words
            .iter()
            .map(|word| word.display().to_string())
            .collect())
    }

    fn config(&self, prefix: &Path) -> String {
        let Self {
            name,
            listen,
            workers,
            files,
            ..
        } = self;
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
             server {{\n{listen}{files}        location / {{\n            default_type text/plain;\n            \
             add_header X-Generation {name};\n            return 200 \"{name}\\n\";\n        }}\n    }}\n}}\n",
            prefix = prefix.display(),
        )
    }
}

/// Where nginx is.
pub fn binary() -> Option<PathBuf> {
    locate::program("nginx")
}
