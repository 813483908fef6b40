//! A pipe whose name somebody removed gets one again.

use std::{fs, io, os::unix::fs::symlink, path::Path};

/// Descriptors in which a server has its output; it may have more of them.
const OUTPUTS: [u32; 2] = [1, 2];

/// Has `pipe` lead to the pipe that once had this name, if one of these processes has it open: the
/// next logger finds it by that. Whether it was gone, and is there again.
///
/// # Errors
///
/// When no name can be made.
pub fn name_again(pipe: &Path, pids: impl IntoIterator<Item = u32>) -> io::Result<bool> {
    if pipe.exists() {
        return Ok(false);
    }
    let was = format!("{} (deleted)", pipe.display());
    let outputs = pids
        .into_iter()
        .flat_map(|pid| OUTPUTS.map(|fd| format!("/proc/{pid}/fd/{fd}")));
    let is_it = |fd: &String| fs::read_link(fd).is_ok_and(|to| to == Path::new(&was));
    let Some(fd) = outputs.into_iter().find(is_it) else {
        return Ok(false);
    };
    match fs::remove_file(pipe) {
        // One that was made for a process that has ended since.
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    symlink(fd, pipe)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;
    use crate::sys::fifo;

    #[test]
    fn it_is_found_with_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("web.a");
        let made = fifo::make(&pipe, 0, 0, 4096).unwrap();
        let stdout = fifo::output(&pipe).unwrap();
        let mut child = std::process::Command::new("sleep");
        let mut child = child.arg("60").stdout(stdout).spawn().unwrap();
        assert!(!name_again(&pipe, [child.id()]).unwrap());
        fs::remove_file(&pipe).unwrap();
        assert!(!name_again(&pipe, [std::process::id()]).unwrap());
        assert!(name_again(&pipe, [child.id()]).unwrap());
        (&made.hold).write_all(b"one").unwrap();
        let mut text = [0; 3];
        fifo::reader(&pipe).unwrap().read_exact(&mut text).unwrap();
        assert_eq!(&text, b"one");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
