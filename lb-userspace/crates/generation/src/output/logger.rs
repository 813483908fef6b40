//! The logger: one process an agent, which takes what servers write from their pipes to their files.
//!
//! It outlives the agent, and is started again by it. What is not in a file yet lies in the pipes, so
//! its end loses nothing. It holds no server up either: a thread of its own writes to the disk, from
//! copies, while no pipe is locked; and as long as that thread cannot, the oldest is given up before
//! a server would have to wait.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    mem,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, Sender},
    },
    thread,
    time::Duration,
};

use nix::unistd::{dup2_stdout, setsid};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

use super::{
    all_pipes,
    part::{self, PART, Part, Record},
    source::{Need, Source},
    writer::{Job, Outcome, Writer},
};
use crate::{
    clock,
    config::OutputPlaces,
    sys::{cgroup::Cgroup, fifo, process},
};

/// What its process is called.
pub(super) const NAME: &str = "hotlb-logger";
/// Parts of one output before the others have their turn.
const PARTS: usize = 8;
/// Time between two looks while something is not written.
const LOOK: Duration = Duration::from_millis(50);
/// A file that takes a part for longer holds servers up, once their pipes are full.
const SLOW: Duration = Duration::from_millis(500);
/// Time between two tries to write a file that cannot be written.
const RETRY: Duration = Duration::from_millis(200);
/// Before a round: what comes meanwhile is taken together, and clients whose server just died have the CPUs.
const PAUSE: Duration = Duration::from_millis(5);

/// Logs until it is killed. Says "ready" on stdout, then lets go of it. Ends at once where another
/// logger is.
///
/// # Errors
///
/// When the cgroup or the directories cannot be used.
pub fn log(places: OutputPlaces, cgroup: PathBuf) -> io::Result<()> {
    // Away from the agent's terminal and group. It fails only for a group leader.
    let _leader = setsid();
    fs::write("/proc/self/comm", NAME)?;
    let cgroup = Cgroup::at(cgroup);
    cgroup.enter()?;
    let me = std::process::id();
    let others = cgroup.own_pids().into_iter().filter(|&pid| pid != me);
    if let Some(other) = others.into_iter().find(|&pid| process::name(pid) == NAME) {
        return Err(io::Error::other(format!("process {other} is the logger")));
    }
    // Two descriptors an output.
    let files = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: files.maximum,
        ..files
    };
    // Enough for most hosts without it.
    let _as_before = setrlimit(Resource::Nofile, all);
    let mut logger = Taker::new(places)?;
    logger.scan();
    io::stdout().write_all(b"ready\n")?;
    let null = File::options().write(true).open("/dev/null")?;
    dup2_stdout(&null)?;
    logger.run()
}

/// The thread that takes up.
struct Taker {
    places: OutputPlaces,
    record: Record,
    changes: OwnedFd,
    /// By inode.
    sources: BTreeMap<u64, Source>,
    /// Into the scratch pipe, whose other end the writer has. It is empty but for one part.
    scratch: PipeWriter,
    jobs: Sender<Job>,
    done: PipeReader,
    null: File,
}

/// How it stands with a pipe.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Goes,
    Empty,
    Fails,
    Over,
}

impl Taker {
    fn new(places: OutputPlaces) -> io::Result<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let changes = inotify::init(flags)?;
        let watched = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CREATE;
        inotify::add_watch(&changes, &places.pipes, watched)?;
        let record = Record::open(&places.part())?;
        let null = File::options().write(true).open("/dev/null")?;
        let (scratch, into) = io::pipe()?;
        fifo::enlarge(&into, PART);
        let (done, said) = io::pipe()?;
        let (jobs, work) = mpsc::channel();
        let writer = Writer {
            scratch,
            record: record.another()?,
            null: null.try_clone()?,
            done: said,
        };
        thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || writer.run(&work))?;
        Ok(Self {
            places,
            record,
            changes,
            sources: BTreeMap::new(),
            scratch: into,
            jobs,
            done,
            null,
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut has_more = false;
        loop {
            let ready = self.ready()?;
            if !has_more {
                let _passed = poll(&mut [], Some(&span(PAUSE)));
            }
            has_more = false;
            for pipe in ready {
                has_more |= self.take(pipe)? == Flow::Goes;
            }
            self.relieve_failing();
        }
    }

    /// Waits until something can be taken up: which pipes.
    fn ready(&mut self) -> io::Result<Vec<u64>> {
        // Nobody may have it open any more, and then no event says so.
        let new = self.sources.iter_mut();
        let new = new.filter_map(|(&pipe, source)| mem::take(&mut source.is_new).then_some(pipe));
        let new: Vec<u64> = new.collect();
        if !new.is_empty() {
            return Ok(new);
        }
        let now = clock::now();
        let is_due = |source: &Source| match &source.failing {
            Some((retry, _)) => *retry <= now,
            None => true,
        };
        let asked: Vec<(u64, &Source)> = self
            .sources
            .iter()
            .filter(|(_, source)| is_due(source))
            .map(|(&pipe, source)| (pipe, source))
            .collect();
        let all_due = asked.len() == self.sources.len();
        let mut fds = vec![PollFd::new(&self.changes, PollFlags::IN)];
        fds.extend(
            asked
                .iter()
                .map(|(_, source)| PollFd::new(&source.pipe, PollFlags::IN)),
        );
        let limit = (!all_due).then(|| span(LOOK));
        match poll(&mut fds, limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut answers = fds.iter().map(|fd| !fd.revents().is_empty());
        let changed = answers.next().unwrap_or_default();
        let ready = asked.iter().zip(answers).filter(|(_, ready)| *ready);
        let ready = ready.map(|((pipe, _), _)| *pipe).collect();
        if changed {
            self.hear();
        }
        Ok(ready)
    }

    /// What changed is found by a scan.
    fn hear(&mut self) {
        let mut events = [0; 4096];
        let mut changed = false;
        while rustix::io::read(&self.changes, &mut events).is_ok_and(|length| length > 0) {
            changed = true;
        }
        if changed {
            self.scan();
        }
    }

    /// Finds what is new.
    fn scan(&mut self) {
        for (service, generation, path) in all_pipes(&self.places) {
            // Gone by now, or something else.
            let _added = self.add(service, generation, &path);
        }
    }

    fn add(&mut self, service: String, generation: String, path: &Path) -> io::Result<()> {
        let inode = fs::metadata(path)?.ino();
        if self.sources.contains_key(&inode) {
            return Ok(());
        }
        let pipe = fifo::reader(path)?;
        let log = self.places.file(&service, &generation);
        let part = self.record.get();
        if part.length > 0 && part.pipe == inode {
            let written = part::written(part, &pipe, &log).unwrap_or_default();
            fifo::discard(&pipe, &self.null, written);
            self.record.set(Part::default())?;
        }
        let source = Source::new(pipe, path.to_owned(), log, (service, generation));
        self.sources.insert(inode, source);
        Ok(())
    }

    /// Takes up what waits, for a while.
    fn take(&mut self, pipe: u64) -> io::Result<Flow> {
        for _ in 0..PARTS {
            match self.part(pipe)? {
                Flow::Goes => {}
                Flow::Over => {
                    self.over(pipe);
                    return Ok(Flow::Over);
                }
                flow => return Ok(flow),
            }
        }
        if let Some(source) = self.sources.get_mut(&pipe) {
            source.relieve(Need::Goes, &self.null, &self.places.dropped());
        }
        Ok(Flow::Goes)
    }

    fn part(&mut self, pipe: u64) -> io::Result<Flow> {
        let Some(source) = self.sources.get_mut(&pipe) else {
            return Ok(Flow::Empty);
        };
        let log = Arc::clone(&source.log);
        if let Some(line) = source.apology() {
            let outcome = self.have_done(Job::Say { pipe, log, line })?;
            return Ok(self.note(pipe, outcome, Source::has_apologized));
        }
        let length = match fifo::show(&source.pipe, &self.scratch, PART) {
            Ok(0) => return Ok(Flow::Over),
            Ok(length) => length,
            Err(_nothing) => {
                source.failing = None;
                return Ok(Flow::Empty);
            }
        };
        source.being_written = length as u64;
        let outcome = self.have_done(Job::Pour { pipe, log, length })?;
        let written = u64::try_from(outcome).unwrap_or_default();
        if let Some(source) = self.sources.get_mut(&pipe) {
            let unwritten = (length as u64).saturating_sub(written);
            let still_there = source.being_written.saturating_sub(unwritten);
            fifo::discard(&source.pipe, &self.null, still_there);
            source.being_written = 0;
        }
        self.record.set(Part::default())?;
        Ok(self.note(pipe, outcome, |_| {}))
    }

    fn note(&mut self, pipe: u64, outcome: Outcome, done: impl FnOnce(&mut Source)) -> Flow {
        let Some(source) = self.sources.get_mut(&pipe) else {
            return Flow::Empty;
        };
        let failed = i32::try_from(-outcome).ok().filter(|&errno| errno > 0);
        source.failing = failed.map(|errno| {
            let why = io::Error::from_raw_os_error(errno).to_string();
            (clock::now() + RETRY, why)
        });
        if source.failing.is_some() {
            return Flow::Fails;
        }
        done(source);
        Flow::Goes
    }

    /// Has the writer do it. Meanwhile no server is kept waiting.
    fn have_done(&mut self, job: Job) -> io::Result<Outcome> {
        self.jobs.send(job).map_err(io::Error::other)?;
        let began = clock::now();
        loop {
            let mut fds = [PollFd::new(&self.done, PollFlags::IN)];
            match poll(&mut fds, Some(&span(LOOK))) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [is_done] = fds.map(|fd| !fd.revents().is_empty());
            if is_done {
                let mut outcome = [0; size_of::<Outcome>()];
                self.done.read_exact(&mut outcome)?;
                return Ok(Outcome::from_ne_bytes(outcome));
            }
            self.hear();
            let is_slow = began.elapsed() > SLOW;
            let need = if is_slow { Need::Stuck } else { Need::Goes };
            let record = self.places.dropped();
            for source in self.sources.values_mut() {
                source.relieve(need, &self.null, &record);
            }
        }
    }

    fn relieve_failing(&mut self) {
        let record = self.places.dropped();
        let failing = |source: &&mut Source| source.failing.is_some();
        for source in self.sources.values_mut().filter(failing) {
            source.relieve(Need::Goes, &self.null, &record);
        }
    }

    fn over(&mut self, pipe: u64) {
        let Some(source) = self.sources.remove(&pipe) else {
            return;
        };
        // The writer is there as long as this thread.
        let _closed = self.jobs.send(Job::Close(pipe));
        let there = fs::metadata(&source.path);
        // A name that was made again leads nowhere by now.
        if there.map_or(true, |there| there.ino() == pipe) {
            let _gone = fs::remove_file(&source.path);
        }
    }
}

fn span(duration: Duration) -> Timespec {
    Timespec::try_from(duration).unwrap_or_default()
}
