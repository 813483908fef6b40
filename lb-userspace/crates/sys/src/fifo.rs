//! Named pipes: what a server writes lies in the kernel until somebody takes it up.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd as _},
        unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    thread,
};

use nix::{
    sys::stat::{Mode, fchmod},
    unistd::{Gid, Uid, fchown, mkfifo},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FlockOperation, Uid as RawUid, flock},
    io::{Errno, ioctl_fionread},
    pipe::{SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, splice, tee},
    thread::set_thread_res_uid,
};

/// Everybody who has a descriptor of the pipe may open it once more for writing, as
/// `/dev/stderr` does; who reads it is its owner, and root.
const MODE: Mode = Mode::from_bits_truncate(0o622);

/// A user that nobody is: the one whose pipes these are.
const NOBODYS: u32 = 2_147_483_000;

/// The most that a user without rights gets on a stock kernel (`fs.pipe-max-size`).
pub const USUAL: usize = 1024 * 1024;

/// The limit's name.
pub const LIMIT: &str = "/proc/sys/fs/pipe-max-size";

/// A new pipe, which lives while a descriptor of it is open, anybody's.
#[derive(Debug)]
pub struct Made {
    /// As long as it is open, the pipe has a writer.
    pub hold: File,
    /// Its reading end.
    pub reader: File,
}

/// Makes a pipe at `path`, which `uid` and `gid` own, with room for `room` bytes or as much below
/// that as the kernel grants; what was there is replaced.
///
/// # Errors
///
/// What the file system says.
pub fn make(path: &Path, uid: u32, gid: u32, room: usize) -> io::Result<Made> {
    let path = path.to_owned();
    let made = thread::spawn(move || {
        // The kernel counts the room of all pipes of a user, and gives those of its processes that
        // have no rights the smallest pipes once it is 64 MiB: root's, in containers, must not be
        // met by that. Whose it is is the real user of the thread that opens it first. Where
        // there is no such user (a user namespace), nothing is left to do.
        let nobody = RawUid::from_raw(NOBODYS);
        let _own = set_thread_res_uid(nobody, RawUid::ROOT, RawUid::ROOT);
        make_here(&path, uid, gid, room)
    });
    made.join()
        .unwrap_or_else(|_panicked| Err(io::Error::other("the thread that makes it broke")))
}

fn make_here(path: &Path, uid: u32, gid: u32, room: usize) -> io::Result<Made> {
    let new = hidden(path);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    mkfifo(&new, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let hold = only_fifo(nonblocking().write(true), &new)?;
    fchown(&hold, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    fchmod(&hold, MODE)?;
    enlarge(&hold, room);
    let reader = reader(&new)?;
    // It has that name only while somebody has it open for writing.
    fs::rename(new, path)?;
    Ok(Made { hold, reader })
}

/// What a pipe is called before it is ready.
fn hidden(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}"))
}

fn nonblocking() -> fs::OpenOptions {
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    options
}

/// Opens it as a server's output: writes wait for room. It is open for reading as well, so the pipe
/// has a reader as long as the server has its output, and no write ends it by SIGPIPE.
///
/// # Errors
///
/// ENOENT: there is none; EINVAL: it is something else.
pub fn output(path: &Path) -> io::Result<File> {
    only_fifo(File::options().read(true).write(true), path)
}

/// Opens its reading end: who has no other learns when the last writer is gone.
///
/// # Errors
///
/// As [`output`].
pub fn reader(path: &Path) -> io::Result<File> {
    only_fifo(&nonblocking(), path)
}

fn only_fifo(options: &fs::OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        Ok(file)
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    }
}

/// Bytes that nobody has taken up.
pub fn waiting(fifo: impl AsFd) -> u64 {
    ioctl_fionread(fifo).unwrap_or_default()
}

/// How many bytes it has room for. A write that does not fit into what is left of a page begins
/// another one, so it may be full at half of that.
pub fn room(fifo: impl AsFd) -> u64 {
    fcntl_getpipe_size(fifo).map_or(0, |room| room as u64)
}

/// Whether a write would wait.
pub fn is_full(fifo: &File) -> bool {
    let path = format!("/proc/self/fd/{}", fifo.as_raw_fd());
    let mut options = File::options();
    options.write(true).custom_flags(libc::O_NONBLOCK);
    let Ok(writer) = options.open(path) else {
        return false;
    };
    let mut asked = [PollFd::new(&writer, PollFlags::OUT)];
    let at_once = Timespec::default();
    poll(&mut asked, Some(&at_once)) == Ok(0)
}

/// Gives it as much room as the kernel grants, up to `wanted`. The room is not taken before it is
/// used, but for some 1 % of it.
pub fn enlarge(fifo: impl AsFd, wanted: usize) {
    let fifo = fifo.as_fd();
    let mut size = wanted;
    while size > USUAL {
        let done = match fcntl_setpipe_size(fifo, size) {
            Err(Errno::PERM) => above_limit(size, || fcntl_setpipe_size(fifo, size)),
            done => done,
        };
        if done.is_ok() {
            return;
        }
        size /= 2;
    }
    // What it has is better than nothing.
    let _less = fcntl_setpipe_size(fifo, size);
}

/// Without `CAP_SYS_RESOURCE` root may raise the limit, but not exceed it: it is raised for this
/// one call. Agents do so one after the other.
fn above_limit(
    size: usize,
    call: impl FnOnce() -> rustix::io::Result<usize>,
) -> rustix::io::Result<usize> {
    let refused = |_refused: io::Error| Errno::PERM;
    let limit = File::open(LIMIT).map_err(refused)?;
    flock(&limit, FlockOperation::LockExclusive)?;
    let before = fs::read_to_string(LIMIT).map_err(refused)?;
    if before
        .trim()
        .parse()
        .is_ok_and(|before: usize| before >= size)
    {
        return Err(Errno::PERM); // it is not that limit
    }
    fs::write(LIMIT, size.to_string()).map_err(refused)?;
    let result = call();
    if let Err(error) = fs::write(LIMIT, &before) {
        tracing::warn!(
            %error,
            "failed to restore fs.pipe-max-size: it is {size}, it was {}",
            before.trim()
        );
    }
    result
}

/// Has the first bytes that wait in `from`, up to `length`, in the pipe `into` as well. They stay
/// where they are. 0: none wait, and nobody is there to write any.
///
/// # Errors
///
/// EAGAIN: none wait.
pub fn show(from: impl AsFd, into: impl AsFd, length: usize) -> io::Result<usize> {
    Ok(tee(from, into, length, SpliceFlags::NONBLOCK)?)
}

/// Moves up to `length` bytes into `file`, at `offset`.
///
/// # Errors
///
/// What the file system says.
pub fn pour(from: impl AsFd, file: &File, offset: u64, length: usize) -> io::Result<usize> {
    let mut offset = offset;
    let flags = SpliceFlags::NONBLOCK;
    Ok(splice(from, None, file, Some(&mut offset), length, flags)?)
}

/// Takes away the first `length` bytes; how many there were.
pub fn discard(from: impl AsFd, null: &File, length: u64) -> u64 {
    let mut gone = 0;
    while gone < length {
        let left = usize::try_from(length - gone).unwrap_or(usize::MAX);
        match splice(&from, None, null, None, left, SpliceFlags::NONBLOCK) {
            Ok(0) | Err(_) => break,
            Ok(moved) => gone += moved as u64,
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn opening_it_anew_empties_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.a");
        let made = make(&path, 0, 0, USUAL).unwrap();
        let mut server = output(&path).unwrap();
        drop(made.hold);
        server.write_all(b"one\n").unwrap();
        let mut again = File::options();
        let again = again.write(true).create(true).truncate(true);
        again.open(&path).unwrap().write_all(b"two\n").unwrap();
        assert_eq!(waiting(&made.reader), 8);
        let mut text = [0; 8];
        (&made.reader).read_exact(&mut text).unwrap();
        assert_eq!(&text, b"one\ntwo\n");
    }

    #[test]
    fn what_is_shown_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.a");
        let made = make(&path, 0, 0, 4096).unwrap();
        let (scratch, into) = io::pipe().unwrap();
        let nothing = show(&made.reader, &into, 10).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        (&made.hold).write_all(&[b'x'; 4096]).unwrap();
        assert!(is_full(&made.reader));
        assert_eq!(show(&made.reader, &into, 10).unwrap(), 10);
        let file = tempfile::tempfile().unwrap();
        assert_eq!(pour(&scratch, &file, 3, 10).unwrap(), 10);
        assert_eq!(file.metadata().unwrap().len(), 13);
        assert_eq!(waiting(&made.reader), 4096);
        let null = File::options().write(true).open("/dev/null").unwrap();
        assert_eq!(discard(&made.reader, &null, 4090), 4090);
        drop(made.hold);
        assert_eq!(show(&made.reader, &into, 10).unwrap(), 6);
        assert_eq!(discard(&made.reader, &null, 10), 6);
        assert!(!is_full(&made.reader));
        assert_eq!(show(&made.reader, &into, 10).unwrap(), 0);
    }
}
