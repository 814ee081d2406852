//! The machines that the cases run on: what auvm's launcher is told, and what Linux's first process.
//!
//! Each is a boot of either kernel. Sizes are chosen so that programs find as much free memory on the one as on the other where memory
//! is what a case is about.

use bench_programs::cases::{Case, Group};
use bench_programs::{CASE, ENDS, FILE, FIRST};

/// A machine.
#[derive(Debug)]
pub struct Configuration {
    /// Its name in the report.
    pub name: &'static str,
    /// What it has, for the report.
    pub has: &'static str,
    /// What runs on it.
    pub groups: &'static [Group],
    /// The files that it has, by their names there.
    pub files: &'static [&'static str],
    /// The launcher's options: memory, and RAM disks, which come on top of it.
    pub auvm: &'static [&'static str],
    /// Memory of Linux's machine, as QEMU has it; RAM disks are in it.
    pub linux_memory: &'static str,
    /// Linux's modules, below `kernel/`, which it finds as files of their names in `/bench`.
    pub linux_modules: &'static [&'static str],
    /// What Linux's first process does before it runs the cases.
    pub linux_orders: &'static [&'static str],
}

/// All of them, in the order in which they are booted.
pub static CONFIGURATIONS: [&Configuration; 2] = [&PLAIN, &PAGING];

/// Memory enough, no disk.
pub static PLAIN: Configuration = Configuration {
    name: "plain",
    has: "256 MiB of memory, no disk",
    groups: &[Group::Operations, Group::Boot, Group::Memory],
    files: &[CASE, ENDS, FIRST, FILE],
    auvm: &["--memory", "256M"],
    linux_memory: "256M",
    linux_modules: &[],
    linux_orders: &[],
};

/// 65 MiB are free; the swap disk is in memory, and answers after 100 us. On Linux it is `null_blk`, whose pages are all taken before
/// the first case; what is left beyond that then is locked by the first process.
static PAGING: Configuration = Configuration {
    name: "paging",
    has: "65 MiB of free memory, a swap disk in memory of 320 MiB: 100 us a request, 256 at once",
    groups: &[Group::Paging, Group::Touches],
    // Linux could move others to its swap disk, and have their memory.
    files: &[CASE],
    auvm: &["--memory", "70M", "--ramdisk", "320M:100us:256,swap"],
    linux_memory: "480M",
    linux_modules: &[
        "fs/configfs/configfs.ko",
        "drivers/block/null_blk/null_blk.ko",
    ],
    linux_orders: &[
        "mount devtmpfs /dev",
        "mount proc /proc",
        "mount sysfs /sys",
        "load /bench/configfs.ko",
        "load /bench/null_blk.ko queue_mode=2 irqmode=2 completion_nsec=100000 memory_backed=1 hw_queue_depth=256 \
         submit_queues=1 gb=1 bs=4096",
        // The multi-generation LRU, all of it.
        "set /sys/kernel/mm/lru_gen/enabled 7",
        // What Linux itself sets where there is so much: the machine's size is another.
        "set /proc/sys/vm/min_free_kbytes 1033",
        "swap /dev/nullb0 81920",
        "leave 16742",
    ],
};

impl Configuration {
    /// Those of `cases` that run on it.
    pub fn cases(&self, cases: &[&'static Case]) -> Vec<&'static Case> {
        let here = |case: &&&'static Case| self.groups.contains(&case.group);
        cases.iter().filter(here).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use bench_programs::cases::CASES;

    use super::*;

    #[test]
    fn every_case_has_one_machine() {
        for group in Group::ALL {
            let those = CONFIGURATIONS
                .iter()
                .filter(|configuration| configuration.groups.contains(&group));
            assert_eq!(those.count(), 1, "{group:?}");
        }
        let all: Vec<&Case> = CASES.iter().collect();
        let sum = CONFIGURATIONS
            .iter()
            .map(|configuration| configuration.cases(&all).len());
        assert_eq!(sum.sum::<usize>(), CASES.len());
    }
}
