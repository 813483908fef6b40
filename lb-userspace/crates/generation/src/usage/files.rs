//! The files of a cgroup that hold figures. Each is a few words of text whose form the kernel
//! guarantees (Documentation/admin-guide/cgroup-v2.rst, accounting/psi.rst).

use std::{path::Path, time::Duration};

use super::{CpuTime, Measured, Pressure, Reading, Resource, Source, Unavailable, text};

/// CPU time by `cpu.stat`, which every cgroup of version 2 has.
pub(super) fn cpu(directory: &Path) -> Reading<CpuTime> {
    let text = text(directory, "cpu.stat")?;
    cpu_stat(&text)
        .map(of_cgroup2)
        .ok_or(Unavailable::Unreadable)
}

fn cpu_stat(text: &str) -> Option<CpuTime> {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().parse().ok().map(Duration::from_micros)
    };
    Some(CpuTime {
        user: value("user_usec ")?,
        system: value("system_usec ")?,
    })
}

/// CPU time by the `cpuacct` controller of version 1 (kernel 4.7+).
pub(super) fn legacy_cpu(directory: &Path) -> Reading<CpuTime> {
    let nanos = |file| number(directory, file).map(|read| Duration::from_nanos(read.value));
    Ok(Measured {
        value: CpuTime {
            user: nanos("cpuacct.usage_user")?,
            system: nanos("cpuacct.usage_sys")?,
        },
        source: Source::Cgroup1,
    })
}

/// How long `resource` was waited for.
pub(super) fn pressure(directory: &Path, resource: Resource) -> Reading<Pressure> {
    let text = text(directory, &format!("{}.pressure", resource.name()))?;
    stall(&text).map(of_cgroup2).ok_or(Unavailable::Unreadable)
}

fn stall(text: &str) -> Option<Pressure> {
    let total = |which: &str| {
        let line = text.lines().find(|line| line.starts_with(which))?;
        let (_, total) = line.split_once("total=")?;
        total.trim().parse().ok().map(Duration::from_micros)
    };
    Some(Pressure {
        some: total("some ")?,
        full: total("full "),
    })
}

/// A file that holds one number.
pub(super) fn number(directory: &Path, file: &str) -> Reading<u64> {
    let text = text(directory, file)?;
    let value = text.trim().parse();
    value
        .map(of_cgroup2)
        .map_err(|_no_number| Unavailable::Unreadable)
}

fn of_cgroup2<T>(value: T) -> Measured<T> {
    Measured {
        value,
        source: Source::Cgroup2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_and_pressure_are_read_as_the_kernel_writes_them() {
        let text = "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnice_usec 0\n";
        let cpu = cpu_stat(text).unwrap();
        assert_eq!(
            (cpu.user.as_micros(), cpu.system.as_micros()),
            (3, 2),
            "{cpu:?}"
        );
        let text = "some avg10=0.00 avg60=6.14 avg300=11.96 total=8394277121\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        let found = stall(text).unwrap();
        assert_eq!(found.some, Duration::from_micros(8_394_277_121));
        assert_eq!(found.full, Some(Duration::from_micros(7)));
        let early = stall("some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n").unwrap();
        assert_eq!(early.full, None);
        assert!(cpu_stat("usage_usec 5\n").is_none() && stall("").is_none());
    }

    #[test]
    fn a_value_that_is_not_there_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let there = directory.path();
        assert_eq!(
            number(there, "memory.current"),
            Err(Unavailable::NoController)
        );
        assert_eq!(
            number(&there.join("gone"), "memory.current"),
            Err(Unavailable::Ended)
        );
        std::fs::write(there.join("memory.current"), "much\n").unwrap();
        assert_eq!(
            number(there, "memory.current"),
            Err(Unavailable::Unreadable)
        );
        std::fs::write(there.join("memory.current"), "4096\n").unwrap();
        assert_eq!(number(there, "memory.current"), Ok(of_cgroup2(4096)));
    }
}
