//! `uvmexp`: the counters that `vmstat -s` and `sysctl vm` show and that tests check.
//!
//! Counters only ever grow. Each CPU has a row of its own, written by plain loads and stores: tasks
//! are not preempted inside the kernel and interrupt handlers do not count here, so no increment is
//! lost, and counting costs no lock prefix and shares no cache line. [`Uvm::uvmexp`] adds the rows
//! up. Gauges go up and down and are few: shared atomics, or read from their owner at snapshot.
//!
//! Names are NetBSD's where it has the thing.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::Uvm;
use crate::percpu::PerCpu;

macro_rules! named {
    ($(#[$outer:meta])* $kind:ident, $all:ident: $($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum $kind { $($(#[doc = $doc])+ $variant,)+ }

        impl $kind {
            /// All of them, in the order in which they are shown.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name, as `sysctl vm.NAME` has it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it counts, as `vmstat -s` says it.
            #[must_use]
            pub fn describe(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc,)+).trim_ascii(),)+ }
            }
        }
    };
}

named! {
    /// Things that happened since boot.
    Counter, COUNTERS:
    /// page faults
    Faults = "faults",
    /// faults with nothing mapped or not allowed
    FaultErrors = "flterror",
    /// faults that ended in their first poll
    FltNowait = "fltnowait",
    /// faults that had to wait for a frame
    FltNoram = "fltnoram",
    /// faults that waited so that others came first
    Turnwaits = "turnwaits",
    /// faults that met a busy page
    FltPgwait = "fltpgwait",
    /// faults that started over
    FltRelck = "fltrelck",
    /// case 1A: anonymous page mapped
    FltAnon = "flt_anon",
    /// case 1B: anonymous page copied on write
    FltAcow = "flt_acow",
    /// case 2A: object page mapped
    FltObj = "flt_obj",
    /// case 2B: object page promoted to an anonymous copy
    FltPrcopy = "flt_prcopy",
    /// case 2B: zero-filled
    FltPrzero = "flt_przero",
    /// neighbours mapped along with a fault
    FltNamap = "fltnamap",
    /// amaps copied to clear needs-copy
    FltAmcopy = "fltamcopy",
    /// pages lent
    Loans = "loans",
    /// pages copied because they were written while on loan
    LoanBreaks = "loanbreaks",
    /// calls of a pager's get
    FltGet = "fltget",
    /// page-in operations
    Pageins = "pageins",
    /// pages read from swap
    Swapins = "swapins",
    /// page-out operations
    Pageouts = "pageouts",
    /// pages written to swap
    Swapouts = "swapouts",
    /// pages read again that were evicted lately
    Refaults = "refaults",
    /// pages read again so soon that they are active at once
    Refkept = "refkept",
    /// pages of files paged in
    Pgswapin = "pgswapin",
    /// forks
    Forks = "forks",
    /// address spaces emptied by the last one that had them
    SpaceFrees = "spacefrees",
    /// system calls
    Syscalls = "syscalls",
    /// pagedaemon wake-ups
    Pdwoke = "pdwoke",
    /// pagedaemon passes
    Pdrevs = "pdrevs",
    /// pages looked at by the pagedaemon
    Pdscans = "pdscans",
    /// pages freed by the pagedaemon
    Pdfreed = "pdfreed",
    /// anonymous pages looked at by the pagedaemon
    Pdanscan = "pdanscan",
    /// object pages looked at by the pagedaemon
    Pdobscan = "pdobscan",
    /// pages found used for the first time since they were read
    Pdonce = "pdonce",
    /// pages reactivated by the pagedaemon
    Pdreact = "pdreact",
    /// busy pages met by the pagedaemon
    Pdbusy = "pdbusy",
    /// pages deactivated by the pagedaemon
    Pddeact = "pddeact",
    /// pages that could not be written out
    Pdpending = "pdpending",
    /// processes killed for memory
    Pdkills = "pdkills",
    /// swap slots discarded
    Swdiscards = "swdiscards",
    /// swap slots found bad
    Pdbadslot = "pdbadslot",
    /// frames allocated
    Pgalloc = "pgalloc",
    /// frames freed
    Pgfree = "pgfree",
    /// zeroed frames that had to be zeroed when asked for
    Pgzeromiss = "pga_zeromiss",
    /// frames zeroed ahead of need
    Zeroidle = "zeroidle",
    /// frame allocations that failed
    Pgallocfail = "pgallocfail",
    /// blocks allocated from the kernel heap
    HeapAllocs = "heapallocs",
    /// blocks freed to the kernel heap
    HeapFrees = "heapfrees",
    /// heap blocks larger than a page after boot
    HeapLarge = "heaplarge",
    /// heap allocations that failed
    HeapFails = "heapfails",
    /// objects allocated from typed pools
    PoolAllocs = "poolallocs",
    /// objects freed to typed pools
    PoolFrees = "poolfrees",
    /// pool allocations that failed
    PoolFails = "poolfails",
    /// slabs made
    SlabAllocs = "slaballocs",
    /// slabs given back
    SlabFrees = "slabfrees",
    /// global free-list lock taken
    FreelistLocks = "freelistlocks",
    /// global page-queue lock taken
    QueueLocks = "queuelocks",
    /// pool lock taken
    PoolLocks = "poollocks",
    /// page tables allocated
    PmapTableAllocs = "pmap_tableallocs",
    /// address spaces switched to
    PmapActivate = "pmap_activate",
    /// address spaces whose page tables were put away
    PmapsAway = "pmapsaway",
    /// address spaces switched away from
    PmapDeactivate = "pmap_deactivate",
    /// TLB flushes of single pages (calls)
    TlbFlush = "tlbflush",
    /// pages in those
    TlbFlushPages = "tlbflushpages",
    /// TLB flushes of everything
    TlbFlushAll = "tlbflushall",
    /// u-areas made
    UareaFresh = "uareafresh",
    /// u-areas found in the cache
    UareaHits = "uareahits",
    /// u-areas put back
    UareaFrees = "uareafrees",
    /// u-areas released by drain
    UareaDrained = "uareadrained",
    /// u-areas put out to swap
    UareaPuts = "uareaputs",
    /// u-areas that stayed in memory, though they were about to be put out
    UareaStays = "uareastays",
    /// u-areas brought in from swap
    UareaBrings = "uareabrings",
}

named! {
    /// Amounts as of now. Kept here only if nobody else keeps them.
    Gauge, GAUGES:
    /// pages being paged in
    PagingIn = "paging_in",
    /// most pages ever being paged in at once
    PagingInMax = "paging_in_max",
    /// pages being paged out
    Paging = "paging",
    /// pages of swap
    Swpages = "swpages",
    /// pages of swap in use
    Swpginuse = "swpginuse",
    /// pages of swap in use for what is not in memory
    Swpgonly = "swpgonly",
    /// faults that are about to read from swap
    SwapWaits = "swap_waits",
    /// pages wired
    Wired = "wired",
    /// pagedaemon wakes below so many free pages
    Freemin = "freemin",
    /// pagedaemon frees up to so many pages
    Freetarg = "freetarg",
    /// inactive pages aimed at
    Inactarg = "inactarg",
    /// most pages that may be wired
    Wiredmax = "wiredmax",
    /// anonymous pages resident
    Anonpages = "anonpages",
    /// file pages resident
    Filepages = "filepages",
    /// pages in page tables of address spaces
    PmapTables = "pmap_tables",
    /// u-areas on swap only
    UareasOut = "uareasout",
}

const COUNTERS: usize = Counter::ALL.len();
const GAUGES: usize = Gauge::ALL.len();

/// One CPU's counters, on cache lines of their own.
#[repr(align(64))]
struct Row([AtomicU64; COUNTERS]);

/// All counters of a [`Uvm`].
pub struct Meter {
    rows: PerCpu<Row>,
    gauges: [AtomicU64; GAUGES],
}

impl Meter {
    /// Counters at zero for `cpus` CPUs.
    #[must_use]
    pub(crate) fn new(cpus: usize) -> Self {
        Self {
            rows: PerCpu::new(cpus, || Row([const { AtomicU64::new(0) }; COUNTERS])),
            gauges: [const { AtomicU64::new(0) }; GAUGES],
        }
    }

    /// Adds `n` to a counter of `cpu`, which must be the one that runs the caller
    /// (another one: an increment may get lost, nothing worse).
    #[inline]
    pub fn add(&self, cpu: usize, counter: Counter, n: u64) {
        let cell = &self.rows.get(cpu).0[counter as usize];
        cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// A counter summed over all CPUs.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.rows
            .iter()
            .map(|row| row.0[counter as usize].load(Relaxed))
            .sum()
    }

    /// A counter's part of `cpu`.
    #[must_use]
    pub fn get_on(&self, cpu: usize, counter: Counter) -> u64 {
        self.rows.get(cpu).0[counter as usize].load(Relaxed)
    }

    /// A gauge's value.
    #[must_use]
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.gauges[gauge as usize].load(Relaxed)
    }

    /// Sets a gauge.
    pub fn set(&self, gauge: Gauge, value: u64) {
        self.gauges[gauge as usize].store(value, Relaxed);
    }

    /// Raises a gauge by `n` and returns the new value.
    pub fn raise(&self, gauge: Gauge, n: u64) -> u64 {
        self.gauges[gauge as usize].fetch_add(n, Relaxed) + n
    }

    /// Lowers a gauge by `n` and returns the new value.
    pub fn lower(&self, gauge: Gauge, n: u64) -> u64 {
        let old = self.gauges[gauge as usize].fetch_sub(n, Relaxed);
        debug_assert!(old >= n, "{} below zero", gauge.name());
        old - n
    }

    /// Raises `gauge` by `n` and lifts `max` to the highest value ever seen.
    pub fn raise_with_max(&self, gauge: Gauge, max: Gauge, n: u64) {
        let now = self.raise(gauge, n);
        self.gauges[max as usize].fetch_max(now, Relaxed);
    }
}

/// A consistent enough picture of all counters: each value is exact, all were read within one call.
#[derive(Clone, Debug)]
pub struct Uvmexp {
    /// Bytes in a page.
    pub pagesize: u64,
    /// Pages managed.
    pub npages: u64,
    /// Free pages, zeroed ones included.
    pub free: u64,
    /// Free pages known to be zero.
    pub zeropages: u64,
    /// Pages on the active queue.
    pub active: u64,
    /// Pages on the inactive queue.
    pub inactive: u64,
    /// Frames kept for the pagedaemon.
    pub reserve_pagedaemon: u64,
    /// Frames kept for the kernel.
    pub reserve_kernel: u64,
    /// Frames kept for the kernel's heap.
    pub reserve_heap: u64,
    /// Tasks that wait for a frame.
    pub waiters: u64,
    /// u-areas cached.
    pub uarea_cached: u64,
    /// Pages that pools and heap hold.
    pub pool_pages: u64,
    /// Requests that devices have.
    pub io: u64,
    /// The most that they ever had at once.
    pub io_max: u64,
    /// Requests that devices have ended, and how long they had them.
    pub devices: crate::io::DeviceTime,
    counters: [u64; COUNTERS],
    gauges: [u64; GAUGES],
}

impl Uvmexp {
    /// A counter's value.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }

    /// A gauge's value.
    #[must_use]
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.gauges[gauge as usize]
    }

    /// All values: (name, value, description).
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64, &'static str)> + '_ {
        let fields = [
            ("pagesize", self.pagesize, "bytes per page"),
            ("npages", self.npages, "pages managed"),
            ("free", self.free, "pages free"),
            ("zeropages", self.zeropages, "zeroed pages free"),
            ("active", self.active, "pages active"),
            ("inactive", self.inactive, "pages inactive"),
            (
                "reserve_pagedaemon",
                self.reserve_pagedaemon,
                "pages reserved for the pagedaemon",
            ),
            (
                "reserve_kernel",
                self.reserve_kernel,
                "pages reserved for the kernel",
            ),
            (
                "reserve_heap",
                self.reserve_heap,
                "pages reserved for the kernel's heap",
            ),
            ("waiters", self.waiters, "tasks that wait for a frame"),
            ("uareacached", self.uarea_cached, "u-areas cached"),
            ("poolpages", self.pool_pages, "pages in pools and heap"),
            ("io", self.io, "page I/O requests in flight"),
            (
                "io_max",
                self.io_max,
                "most page I/O requests ever in flight at once",
            ),
            (
                "devrequests",
                self.devices.requests,
                "device requests ended",
            ),
            (
                "devns",
                self.devices.ns,
                "nanoseconds of device requests, added up",
            ),
        ];
        let gauges = Gauge::ALL
            .iter()
            .map(|&g| (g.name(), self.gauge(g), g.describe()));
        let counters = Counter::ALL
            .iter()
            .map(|&c| (c.name(), self.get(c), c.describe()));
        fields.into_iter().chain(gauges).chain(counters)
    }
}

impl fmt::Display for Uvmexp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (_, value, what) in self.iter() {
            writeln!(f, "{value:>12} {what}")?;
        }
        Ok(())
    }
}

impl Uvm {
    /// Adds one to a counter of the CPU that runs the caller.
    #[inline]
    pub fn count(&self, counter: Counter) {
        self.meter().add(self.cpu(), counter, 1);
    }

    /// Adds `n` to a counter of the CPU that runs the caller.
    #[inline]
    pub fn count_n(&self, counter: Counter, n: usize) {
        self.meter().add(self.cpu(), counter, n as u64);
    }

    /// All counters as of now.
    #[must_use]
    pub fn uvmexp(&self) -> Uvmexp {
        let free = self.free_counts();
        let queues = self.queue_counts();
        Uvmexp {
            pagesize: crate::PAGE_SIZE as u64,
            npages: self.pages().managed() as u64,
            free: free.total() as u64,
            zeropages: free.zeroed as u64,
            active: queues.active as u64,
            inactive: queues.inactive as u64,
            reserve_pagedaemon: crate::page::freelist::RESERVE_PAGEDAEMON as u64,
            reserve_kernel: crate::page::freelist::RESERVE_KERNEL as u64,
            reserve_heap: self.heap_reserve() as u64,
            waiters: self.free_waiters() as u64,
            uarea_cached: self.uarea_cached() as u64,
            pool_pages: self.slab_pages() as u64,
            io: self.io().under_way() as u64,
            io_max: self.io().most_under_way() as u64,
            devices: self.io().device_time(),
            counters: core::array::from_fn(|i| self.meter().get(Counter::ALL[i])),
            gauges: core::array::from_fn(|i| self.meter().gauge(Gauge::ALL[i])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_add_up() {
        let meter = Meter::new(2);
        meter.add(0, Counter::Faults, 1);
        meter.add(1, Counter::Faults, 2);
        assert_eq!(meter.get(Counter::Faults), 3);
        assert_eq!(meter.get(Counter::FltAnon), 0);
    }

    #[test]
    fn gauges_remember_their_maximum() {
        let meter = Meter::new(1);
        meter.raise_with_max(Gauge::PagingIn, Gauge::PagingInMax, 3);
        meter.lower(Gauge::PagingIn, 2);
        meter.raise_with_max(Gauge::PagingIn, Gauge::PagingInMax, 1);
        assert_eq!(meter.gauge(Gauge::PagingIn), 2);
        assert_eq!(meter.gauge(Gauge::PagingInMax), 3);
    }

    #[test]
    fn names_are_unique() {
        let mut names: alloc::vec::Vec<_> = Counter::ALL.iter().map(|c| c.name()).collect();
        names.extend(Gauge::ALL.iter().map(|g| g.name()));
        let n = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), n);
        assert_eq!(Counter::Faults.describe(), "page faults");
    }
}
