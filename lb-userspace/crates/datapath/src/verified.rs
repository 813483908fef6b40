//! Loading a program, signals or not.

use aya::programs::ProgramError;

/// How often a load is begun before it is given up; libbpf's number is 5.
const ATTEMPTS: u32 = 16;

/// Has `load` done again as long as the verifier breaks off with `EAGAIN`: it does when a signal waits
/// for the thread (`do_check`, `signal_pending`), which an agent with many children gets at any moment.
pub(super) fn verified(load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    until_whole(load, |error| {
        matches!(error, ProgramError::LoadError { io_error, .. }
            if io_error.raw_os_error() == Some(libc::EAGAIN))
    })
}

fn until_whole<E>(
    mut load: impl FnMut() -> Result<(), E>,
    is_broken_off: impl Fn(&E) -> bool,
) -> Result<(), E> {
    for _ in 1..ATTEMPTS {
        match load() {
            Err(error) if is_broken_off(&error) => {}
            over => return over,
        }
    }
    load()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_signal_broke_off_is_begun_again() {
        let ends = [Err(true), Err(true), Ok(())];
        let mut ends = ends.into_iter();
        let mut begun = 0;
        let over = until_whole(
            || {
                begun += 1;
                ends.next().unwrap()
            },
            |&broken_off: &bool| broken_off,
        );
        assert_eq!((begun, over), (3, Ok(())));
    }

    #[test]
    fn what_is_refused_stays_so_and_nothing_goes_on_for_ever() {
        for (broken_off, times) in [(false, 1), (true, ATTEMPTS)] {
            let mut begun = 0;
            let over = until_whole(
                || {
                    begun += 1;
                    Err(broken_off)
                },
                |&broken_off| broken_off,
            );
            assert_eq!((begun, over), (times, Err(broken_off)));
        }
    }
}
