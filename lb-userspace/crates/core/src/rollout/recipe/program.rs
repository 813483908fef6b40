//! What a process runs: its program, and for an interpreter the script.

use std::path::{Path, PathBuf};

use super::kinds::{DIES_ON_TERM, Kind, shorter};

/// Programs whose parts are named like others.
const APPLETS: [&str; 2] = ["busybox", "toybox"];

/// What a process runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// The name it is known by: the file's, or the script's of an interpreter.
    pub name: String,
    /// The file.
    exe: PathBuf,
    /// What an interpreter runs.
    script: Script,
}

/// What an interpreter runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Script {
    /// It is no interpreter, or runs what stands on its command line.
    #[default]
    None,
    /// This file, or a module or a class.
    Named(String),
    /// What the process calls itself, in place of its command line.
    Title(String),
}

/// An interpreter and those of its options that take the next word.
struct Interpreter {
    names: &'static [&'static str],
    /// The next word is a value.
    values: &'static [&'static str],
    /// The next word is what it runs.
    names_it: &'static [&'static str],
    /// The next word is the program itself.
    inline: &'static [&'static str],
}

static INTERPRETERS: &[Interpreter] = &[
    Interpreter {
        names: &["python", "pypy"],
        values: &["-W", "-X"],
        names_it: &["-m"],
        inline: &["-c"],
    },
    Interpreter {
        names: &["ruby"],
        values: &["-r", "-I", "-C", "-E"],
        names_it: &[],
        inline: &["-e"],
    },
    Interpreter {
        names: &["perl"],
        values: &["-I"],
        names_it: &[],
        inline: &["-e", "-E"],
    },
    Interpreter {
        names: &["node", "nodejs", "bun", "deno"],
        values: &["-r", "--require", "--import", "--loader", "-C"],
        names_it: &[],
        inline: &["-e", "--eval", "-p", "--print"],
    },
    Interpreter {
        names: &["php", "php-cli"],
        values: &["-d", "-c", "-t", "-S", "-z"],
        names_it: &["-f"],
        inline: &["-r"],
    },
    Interpreter {
        names: &["java"],
        values: &[
            "-cp",
            "-classpath",
            "--class-path",
            "-p",
            "--module-path",
            "--add-modules",
        ],
        names_it: &["-jar", "-m", "--module"],
        inline: &[],
    },
    Interpreter {
        names: &["sh", "bash", "dash", "ash", "ksh", "zsh"],
        values: &["-o", "-O", "--rcfile", "--init-file"],
        names_it: &[],
        inline: &["-c"],
    },
];

impl Program {
    /// What a process runs whose file is `exe`, that shows `words` as its command line, in `cwd`.
    pub fn of(exe: &Path, words: &[String], cwd: &Path) -> Self {
        let exe = exe.to_string_lossy();
        let exe = PathBuf::from(exe.strip_suffix(" (deleted)").unwrap_or(&exe));
        let file = file_name(&exe.to_string_lossy()).to_owned();
        let script = interpreter(&file).map_or(Script::None, |own| script(own, &file, words, cwd));
        let name = match &script {
            Script::None if dies_on_term(&file, words) => DIES_ON_TERM.to_owned(),
            Script::None => called(&file, words).unwrap_or(file),
            Script::Named(script) => file_name(script).to_owned(),
            Script::Title(title) => title.clone(),
        };
        Self { name, exe, script }
    }

    /// What is remembered of it is remembered under this.
    pub fn key(&self) -> String {
        match &self.script {
            Script::None => self.exe.display().to_string(),
            Script::Named(script) | Script::Title(script) => {
                format!("{} {script}", self.exe.display())
            }
        }
    }

    /// Whether a process that runs this one may be the master of one that runs `child`: the same
    /// file, and for an interpreter the same script, as far as the child says which.
    pub fn is_master_of(&self, child: &Self) -> bool {
        self.exe == child.exe && (child.script == Script::None || child.script == self.script)
    }

    /// Whether it is the same, or a process that the same program made.
    pub fn is_akin(&self, other: &Self) -> bool {
        self.is_master_of(other) || other.is_master_of(self)
    }
}

/// The name under which a program was called that is several in one: Debian's `redis-server` is a
/// link to `redis-check-rdb`. Only if that says something: a process may call itself what it likes.
fn called(file: &str, words: &[String]) -> Option<String> {
    let first = words.first()?;
    let name = file_name(first.split([' ', ':']).next()?);
    let unknown = Kind::of(file).is_none() && !APPLETS.contains(&file);
    (unknown && Kind::of(name).is_some()).then(|| name.to_owned())
}

/// Whether it is a uwsgi that swaps the meanings of its signals.
fn dies_on_term(file: &str, words: &[String]) -> bool {
    let mut options = words.iter().map(|word| word.trim_start_matches('-'));
    Kind::of(file).is_some()
        && Kind::of(file) == Kind::of("uwsgi")
        && options.any(|word| word == "die-on-term")
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn interpreter(file: &str) -> Option<&'static Interpreter> {
    let mut name = file;
    loop {
        if let Some(found) = INTERPRETERS.iter().find(|i| i.names.contains(&name)) {
            return Some(found);
        }
        name = shorter(name)?;
    }
}

fn script(own: &Interpreter, file: &str, words: &[String], cwd: &Path) -> Script {
    let first = words.first().map_or("", String::as_str);
    let is_itself = |word: &str| {
        let name = file_name(word.trim_start_matches('-'));
        name == file || interpreter(name).is_some_and(|found| found.names == own.names)
    };
    let is_title = first.contains([' ', ':']) || words.len() == 1 && !is_itself(first);
    if is_title && !Path::new(first).is_absolute() {
        let title = first.split([' ', ':']).next().unwrap_or_default();
        return Script::Title(title.to_owned());
    }
    let mut rest = words.iter().skip(1).map(String::as_str);
    while let Some(word) = rest.next() {
        if own.inline.contains(&word) {
            return Script::None;
        }
        if own.values.contains(&word) {
            rest.next();
        } else if own.names_it.contains(&word) {
            return rest.next().map_or(Script::None, |word| named(word, cwd));
        } else if word == "--" || !word.starts_with('-') {
            let script = if word == "--" {
                rest.next()
            } else {
                Some(word)
            };
            let is_bundle = script.is_some_and(|script| file_name(script) == "bundle");
            let run = match (is_bundle, rest.next(), rest.next()) {
                (true, Some("exec"), Some(run)) => Some(run),
                _ => script,
            };
            return run.map_or(Script::None, |run| named(run, cwd));
        }
    }
    Script::None
}

/// A module or a class has no path, and none is made up for it.
fn named(script: &str, cwd: &Path) -> Script {
    Script::Named(if script.contains(['/', '.']) {
        cwd.join(script).display().to_string()
    } else {
        script.to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(exe: &str, line: &str) -> Program {
        let words: Vec<String> = line.split('|').map(str::to_owned).collect();
        Program::of(Path::new(exe), &words, Path::new("/srv"))
    }

    #[test]
    fn a_title_is_not_what_runs() {
        let title = "nginx: master process nginx -p /srv -c /srv/c";
        assert_eq!(program("/usr/sbin/nginx", title).name, "nginx");
        let title = "php-fpm: pool www";
        assert_eq!(program("/usr/sbin/php-fpm8.2", title).name, "php-fpm8.2");
        let title = "/usr/bin/redis-server 127.0.0.1:6379";
        let redis = program("/usr/bin/redis-check-rdb", title);
        assert_eq!(redis.name, "redis-server");
        assert_eq!(program("/bin/busybox", "httpd|-f").name, "busybox");
        assert_eq!(program("/usr/bin/server", "nginx-like|-f").name, "server");
        assert_eq!(
            program("/usr/sbin/nginx (deleted)", "nginx").key(),
            "/usr/sbin/nginx"
        );
    }

    #[test]
    fn scripts_go_by_their_own_names() {
        let name = |exe, line| program(exe, line).name;
        let python = "/usr/bin/python3.11";
        assert_eq!(
            name(python, "/usr/bin/python3|/usr/bin/gunicorn|app"),
            "gunicorn"
        );
        assert_eq!(name(python, "python3|-X|dev|-m|gunicorn|app"), "gunicorn");
        assert_eq!(name(python, "gunicorn: master [app]"), "gunicorn");
        assert_eq!(name(python, "python3|-c|serve()"), "python3.11");
        assert_eq!(
            name("/usr/bin/ruby3.1", "unicorn master -c /srv/u.rb"),
            "unicorn"
        );
        assert_eq!(
            name(
                "/usr/bin/ruby3.1",
                "ruby|/usr/bin/bundle|exec|unicorn_rails|-p|80"
            ),
            "unicorn_rails"
        );
        assert_eq!(
            name("/usr/bin/node", "node|--require|./trace.js|server.js"),
            "server.js"
        );
        assert_eq!(name("/usr/bin/node", "npm start"), "npm");
        assert_eq!(
            name("/usr/lib/jvm/bin/java", "java|-cp|/srv/app|-Xmx1g|Main"),
            "Main"
        );
        assert_eq!(name("/usr/bin/dash", "sh|-c|exec nginx"), "dash");
        assert_eq!(name("/opt/node", "node"), "node");
    }

    #[test]
    fn a_master_is_known_from_a_wrapper() {
        let node = |line| program("/usr/bin/node", line);
        assert!(node("node|cluster.js").is_master_of(&node("/usr/bin/node|/srv/cluster.js")));
        assert!(!node("npm start").is_master_of(&node("node|app.js")));
        assert!(!node("node|supervisor.js").is_master_of(&node("node|app.js")));
        let python = |line| program("/usr/bin/python3.11", line);
        let spawned = python("python3|-c|from multiprocessing.spawn import spawn_main");
        assert!(python("python3|/usr/bin/uvicorn|app:app").is_master_of(&spawned));
        assert!(!spawned.is_master_of(&python("python3|/usr/bin/uvicorn|app:app")));
        let shell = program("/usr/bin/dash", "sh|-c|node app.js");
        assert!(!shell.is_master_of(&node("node|app.js")));
    }

    #[test]
    fn what_is_remembered_is_of_the_program_and_its_script() {
        let node = |line| program("/usr/bin/node", line).key();
        assert_eq!(node("node|app.js"), "/usr/bin/node /srv/app.js");
        assert_eq!(node("node|/srv/app.js"), node("node|app.js"));
        assert_ne!(node("node|other.js"), node("node|app.js"));
    }
}
