//! Whether there is room for a model before it is loaded: a system that runs out of memory ends the program without a
//! word, or first whatever else its user has open.
//!
//! Linux says how much is available, for the machine and for the control group (container, service) of this process. No
//! answer elsewhere, and then nothing is refused. What is counted are weights and the key-value cache; the rest, some
//! hundred MB, is not.

use anyhow::Result;

use crate::hint::Hinted;

/// Refuses what the machine has no room for. `what` needs `n_bytes`; `remedy` is what the user can do.
///
/// # Errors
/// When less is available; the message says both numbers.
pub(crate) fn ensure_room(what: &str, n_bytes: u64, remedy: &str) -> Result<()> {
    compare(what, n_bytes, available(), remedy)
}

fn compare(what: &str, n_bytes: u64, n_available: Option<u64>, remedy: &str) -> Result<()> {
    match n_available {
        Some(n_available) if n_bytes > n_available => {
            let (needed, available) = (gigabytes(n_bytes), gigabytes(n_available));
            let message = format!("{what} need {needed} of memory, {available} are available");
            Err(Hinted::error(message, remedy))
        }
        _ => Ok(()),
    }
}

/// In GB (10⁹ bytes) with a decimal; as much as can be said of an estimate.
fn gigabytes(n_bytes: u64) -> String {
    let tenths = n_bytes.div_ceil(100_000_000);
    format!("{}.{} GB", tenths / 10, tenths % 10)
}

/// Bytes that this process may still take, where the system tells.
#[cfg(target_os = "linux")]
fn available() -> Option<u64> {
    use std::path::Path;

    let text = |path: &Path| crate::fs::read_to_string(path).ok();
    let machine = text(Path::new("/proc/meminfo")).and_then(|text| of_machine(&text));
    let groups = text(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let group = of_groups(&groups, Path::new("/sys/fs/cgroup"));
    machine.into_iter().chain(group).min()
}

#[cfg(not(target_os = "linux"))]
fn available() -> Option<u64> {
    None
}

/// proc_meminfo(5): `MemAvailable`, in kB.
#[cfg(target_os = "linux")]
fn of_machine(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// What the tightest control group leaves: that of the process, and those that hold it. cgroups(7): version 2 is the line
/// `0::/path`; of version 1 the line that names the memory controller.
#[cfg(target_os = "linux")]
fn of_groups(groups: &str, root: &std::path::Path) -> Option<u64> {
    let left_in = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
        let (folder, names) = if controllers.is_empty() {
            (root.to_path_buf(), ["memory.max", "memory.current"])
        } else if controllers.split(',').any(|name| name == "memory") {
            let names = ["memory.limit_in_bytes", "memory.usage_in_bytes"];
            (root.join("memory"), names)
        } else {
            return None;
        };
        let own = folder.join(path);
        let groups = own
            .ancestors()
            .take_while(|group| group.starts_with(&folder));
        groups.filter_map(|group| of_group(group, names)).min()
    };
    groups.lines().filter_map(left_in).min()
}

/// What one group leaves; files it has read count as free, for the system drops them first. `max` is no limit.
#[cfg(target_os = "linux")]
fn of_group(folder: &std::path::Path, [limit, usage]: [&str; 2]) -> Option<u64> {
    let text = |name: &str| crate::fs::read_to_string(&folder.join(name)).ok();
    let limit: u64 = text(limit)?.trim().parse().ok()?;
    let usage: u64 = text(usage)?.trim().parse().ok()?;
    let stat = text("memory.stat").unwrap_or_default();
    let files = ["inactive_file ", "active_file "]
        .iter()
        .filter_map(|name| {
            let line = stat.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse::<u64>().ok()
        });
    Some(limit.saturating_sub(usage.saturating_sub(files.sum())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_both_numbers() {
        let check =
            |n_bytes, n_available| compare("weights", n_bytes, n_available, "a smaller one");
        let error = check(4_910_000_000, Some(3_000_000_000)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "weights need 5.0 GB of memory, 3.0 GB are available"
        );
        assert_eq!(error.downcast::<Hinted>().unwrap().hint, "a smaller one");
        assert!(check(3_000_000_000, Some(3_000_000_000)).is_ok());
        assert!(check(u64::MAX, None).is_ok());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_tightest_of_machine_and_groups_counts() {
        assert_eq!(
            of_machine("MemTotal: 9 kB\nMemAvailable:   700 kB\n"),
            Some(716_800)
        );
        assert_eq!(of_machine("MemTotal: 9 kB\n"), None);
        assert!(available().is_some_and(|n_bytes| n_bytes > 0));

        let root = tempfile::tempdir().unwrap();
        let group = |path: &str, files: &[(&str, &str)]| {
            let folder = root.path().join(path);
            std::fs::create_dir_all(&folder).unwrap();
            for (name, text) in files {
                crate::fs::write_atomic(&folder.join(name), text.as_bytes()).unwrap();
            }
        };
        group(
            "a/b",
            &[("memory.max", "max\n"), ("memory.current", "50\n")],
        );
        let stat = "anon 10\ninactive_file 25\nactive_file 5\n";
        let limited = [
            ("memory.max", "100\n"),
            ("memory.current", "90\n"),
            ("memory.stat", stat),
        ];
        group("a", &limited);
        let of = |groups: &str| of_groups(groups, root.path());
        assert_eq!(of("0::/a/b\n"), Some(40));
        assert_eq!(of("0::/elsewhere\n"), None);
        assert_eq!(of(""), None);

        let limited = [
            ("memory.limit_in_bytes", "70"),
            ("memory.usage_in_bytes", "80"),
        ];
        group("memory/c", &limited);
        assert_eq!(of("8:pids:/c\n4:cpu,memory:/c\n0::/a\n"), Some(0));
    }
}
