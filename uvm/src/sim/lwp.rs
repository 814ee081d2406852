//! A simulated program's life: it takes the next operation, does it, and compares what came of it with the model.

use alloc::sync::Arc;
use core::future::poll_fn;
use core::ops::Range;
use core::pin::pin;
use core::sync::atomic::Ordering::Relaxed;

use executor::yield_now;

use crate::addr::{PAGE_SIZE, VirtAddr};
use crate::fault::FaultError;
use crate::glue::{Attached, SpaceRef};
use crate::map::VmError;
use crate::meter::Counter;
use crate::prot::{Access, Prot};
use crate::sim::Program;
use crate::sim::model::{SAMPLES, Verdict};
use crate::sim::napping::Bed;
use crate::sim::op::{Op, Spot, Then};
use crate::sim::process::{Process, Turn};
use crate::sim::run::Mode;
use crate::sim::shared::Shared;

/// A program.
pub(super) struct Lwp {
    pub(super) shared: Arc<Shared>,
    pub(super) process: Arc<Process>,
    pub(super) program: Program,
    pub(super) holder: Arc<SpaceRef>,
    pub(super) bed: Bed,
}

impl Lwp {
    /// All of it. As the kernel does, it is in its address space at the start of each poll, on whichever CPU that is.
    pub(super) async fn live(mut self) {
        loop {
            let next = {
                let mut life = pin!(self.work());
                let life = poll_fn(|cx| {
                    self.process.space.assert_settled();
                    life.as_mut().poll(cx)
                });
                Attached::new(self.holder.clone(), life).await
            };
            let Some(next) = next else { break };
            self.program = self.program.in_space(&next.space);
            self.process = next;
        }
        self.shared.leave(&self.process, &self.holder).await;
    }

    /// Until the program goes over to another process, which is returned, or ends.
    async fn work(&self) -> Option<Arc<Process>> {
        while !self.dies()
            && let Some((op, then)) = self.shared.next_op()
        {
            match op {
                Some(Op::Exit) if self.shared.programs.load(Relaxed) > 1 => {
                    self.shared.programs.fetch_sub(1, Relaxed);
                    self.shared.note(|o| o.ops += 1);
                    break;
                }
                Some(op) => {
                    let next = match op {
                        Op::Join(choice) => self.join(choice).await,
                        Op::Unshare => self.unshare().await,
                        op => {
                            self.operation(op).await;
                            None
                        }
                    };
                    self.shared.note(|o| o.ops += 1);
                    if next.is_some() {
                        return next;
                    }
                }
                None => {}
            }
            match then {
                Then::GoOn => {}
                Then::Yield => yield_now().await,
                Then::Sleep(micros) => self.nap(micros).await,
            }
        }
        None
    }

    async fn operation(&self, op: Op) {
        match op {
            Op::Access(..) | Op::ReadBytes(..) | Op::WriteBytes(..) => self.touch(op).await,
            Op::Fill(pages, byte) => self.fill(pages, byte).await,
            Op::Scan(pages) => self.scan(pages).await,
            Op::Map(mapping) => self.map(mapping).await,
            Op::MapBadly(flaw, pages) => self.map_badly(flaw, pages),
            Op::Unmap(pages) => self.unmap(pages).await,
            Op::Protect(pages, prot) => self.protect(pages, prot).await,
            Op::Inherit(pages, inherit) => self.inherit(pages, inherit).await,
            Op::Advise(pages, advice) => self.advise(pages, advice).await,
            Op::WillNeed(pages) => self.will_need(pages).await,
            Op::Discard(pages, gives) => self.discard(pages, gives).await,
            Op::Sync(pages, how) => self.sync(pages, how).await,
            Op::Loan(pages, micros) => self.loan(pages, micros).await,
            Op::LoanTo(pages, at, whose) => self.loan_to(pages, at, whose).await,
            Op::Extract(pages, how, at, place, whose) => {
                self.extract(pages, how, (at, place), whose).await;
            }
            Op::Mremap(pages, count, how) => self.mremap(pages, count, how).await,
            Op::Poke(spot, byte) => self.poke(spot, byte).await,
            Op::Brk(bytes) => self.brk(bytes).await,
            Op::Mlock(pages) => self.mlock(pages).await,
            Op::Munlock(pages) => self.munlock(pages).await,
            Op::MlockAll(what) => self.mlockall(what).await,
            Op::MunlockAll => self.munlockall().await,
            Op::Mincore(pages) => self.mincore(pages),
            Op::Fork(programs) => self.fork(programs).await,
            Op::Bequeath(pages, byte) => self.bequeath(pages, byte).await,
            Op::Swapoff(which, moves) => self.swapoff(which, moves).await,
            Op::Swapon(which, priority) => self.swapon(which, priority).await,
            // The program's whole life is about these.
            Op::Join(_) | Op::Unshare | Op::Exit => {}
        }
    }

    pub(super) async fn fill(&self, pages: Range<u64>, byte: u8) {
        for page in pages {
            let spot = Spot { page, sample: 0 };
            self.touch(Op::Access(Access::Write, spot, byte)).await;
        }
    }

    async fn scan(&self, pages: Range<u64>) {
        for page in pages {
            let spot = Spot { page, sample: 0 };
            self.touch(Op::Access(Access::Read, spot, 0)).await;
        }
    }

    /// An access, if any may begin now.
    pub(super) async fn touch(&self, op: Op) {
        let (Op::Access(_, at, _) | Op::ReadBytes(at, _) | Op::WriteBytes(at, _, _)) = op else {
            return;
        };
        let turn = self.turn_to_grow(at).await;
        if !self.process.may_access() {
            return;
        }
        let turn = turn.as_ref();
        let growing = u32::from(turn.is_some());
        self.process.with(|m| m.growing += growing);
        match op {
            Op::Access(access, spot, byte) => self.access(access, spot, byte, turn).await,
            Op::ReadBytes(at, len) => self.read_bytes(at, len, turn).await,
            Op::WriteBytes(at, len, byte) => self.write_bytes(at, len, byte, turn).await,
            _ => {}
        }
        self.process.with(|m| m.growing -= growing);
        self.process.accessed();
    }

    /// Something is wrong.
    #[allow(clippy::unused_self, reason = "the trace says which program it was")]
    pub(super) fn fail(&self, what: core::fmt::Arguments<'_>) -> ! {
        panic!("{what}")
    }

    /// No memory, where that may be.
    pub(super) fn out_of_memory(&self, what: &str, error: VmError) {
        let killed = error == VmError::Fault(FaultError::Killed) && self.process.is_killed();
        let short = matches!(error, VmError::OutOfMemory | VmError::TooLarge);
        if !(short || killed) || self.shared.mode != Mode::Starved {
            self.fail(format_args!("{what}: unexpected: {error}"));
        }
        self.shared.note(|o| o.out_of_memory += 1);
    }

    async fn access(&self, access: Access, spot: Spot, byte: u8, turn: Option<&Turn<'_>>) {
        let Spot { page, sample } = spot;
        let va = spot.va();
        let shown = || {
            let pmap = self.process.space.pmap();
            pmap.extract(&self.shared.world.uvm, VirtAddr::new(va))
                .is_some()
        };
        // Where memory is short a page table may be missing for a translation, never the page.
        let wired = self.process.with(|m| m.is_wired(page))
            && (self.shared.mode != Mode::Starved || shown());
        let faults = || self.shared.world.uvm.meter().get(Counter::Faults);
        let before = faults();
        let (needs, result) = match access {
            Access::Read => (Prot::READ, self.program.load(va).await.map(Some)),
            Access::Exec => (
                Prot::READ | Prot::EXEC,
                self.program.fetch(va).await.map(Some),
            ),
            Access::Write => {
                self.before_store(page);
                let result = self.program.store(va, byte).await;
                (Prot::RW, result.map(|()| None))
            }
        };
        // No await since the access: the model is as of that instant.
        let grown = self.note_growth(page, turn, result.err());
        let verdict = self.process.with(|m| m.judge(page, sample, needs));
        self.judge(page, access, &verdict, result);
        let refused = matches!(result, Err(FaultError::OutOfMemory | FaultError::Io));
        if wired && (refused || (result.is_ok() && faults() != before)) {
            self.fail(format_args!(
                "{access:?} at wired page {page:#x} faults: {result:?}"
            ));
        }
        if access == Access::Write && result.is_ok() {
            self.process.with(|m| m.store(page, sample, byte));
        }
        self.unwire_growth(grown).await;
    }

    fn before_store(&self, page: u64) {
        if self.shared.mode == Mode::Starved {
            self.process.with(|m| m.may_copy(page));
        }
    }

    /// Compares what happened with what had to. `Ok(Some)` is a byte loaded.
    pub(super) fn judge(
        &self,
        page: u64,
        what: Access,
        verdict: &Verdict,
        result: Result<Option<u8>, FaultError>,
    ) {
        match (verdict, result) {
            (_, Err(error @ (FaultError::OutOfMemory | FaultError::Killed)))
                if self.shared.mode == Mode::Starved
                    && self.process.is_killed() == (error == FaultError::Killed) =>
            {
                self.shared.note(|o| o.out_of_memory += 1);
            }
            (Verdict::Succeeds(_) | Verdict::Open, Err(FaultError::Io))
                if self.shared.mode == Mode::Faulty
                    && (*verdict == Verdict::Open || self.may_fail(page)) =>
            {
                self.shared.note(|o| o.io_errors += 1);
            }
            (Verdict::Open, Ok(_)) => self.shared.note(|o| o.accesses += 1),
            (
                Verdict::Open,
                Err(FaultError::NoMapping | FaultError::Protection | FaultError::BeyondEnd),
            ) => {}
            (Verdict::Fails(wanted), Err(got)) if *wanted == got => {
                if got == FaultError::Io && self.shared.mode == Mode::Faulty {
                    self.shared.note(|o| o.io_errors += 1);
                }
            }
            (Verdict::Succeeds(wanted), Ok(got))
                if wanted.is_none() || got.is_none() || *wanted == got =>
            {
                self.shared.note(|o| o.accesses += 1);
            }
            (verdict, result) => self.fail(format_args!(
                "{what:?} at page {page:#x}: {result:x?}, expected {verdict:x?}"
            )),
        }
    }

    /// The same of an access by the kernel: what may have been a device's page at the time is refused.
    fn judge_copy(
        &self,
        page: u64,
        what: Access,
        verdict: &Verdict,
        result: Result<Option<u8>, FaultError>,
    ) {
        if (verdict, result) != (&Verdict::Open, Err(FaultError::Io)) {
            self.judge(page, what, verdict, result);
        }
    }

    /// The parts of `len` bytes from `at` on that lie in one page each: page, first byte in it, and length.
    fn parts(at: Spot, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
        let (mut va, end) = (at.va(), at.va() + len as u64);
        core::iter::from_fn(move || {
            let within = va as usize % PAGE_SIZE;
            let part = (PAGE_SIZE - within).min((end - va) as usize);
            let page = va / PAGE_SIZE as u64;
            va += part as u64;
            (part > 0).then_some((page, within, part))
        })
    }

    /// Page by page, since each is read in an instant of its own.
    async fn read_bytes(&self, at: Spot, len: usize, turn: Option<&Turn<'_>>) {
        for (page, within, part) in Self::parts(at, len) {
            let mut bytes = [0; PAGE_SIZE];
            let va = VirtAddr::new(page * PAGE_SIZE as u64 + within as u64);
            let result = self.process.space.read_bytes(va, &mut bytes[..part]).await;
            let grown = self.note_growth(page, turn, result.err());
            for (sample, &offset) in SAMPLES.iter().enumerate() {
                if (within..within + part).contains(&offset) {
                    let verdict = self
                        .process
                        .with(|m| m.judge_copy(page, sample, Prot::READ));
                    let result = result.map(|()| Some(bytes[offset - within]));
                    self.judge_copy(page, Access::Read, &verdict, result);
                }
            }
            self.unwire_growth(grown).await;
            if result.is_err() {
                break;
            }
        }
        self.process.space.made_progress();
    }

    async fn write_bytes(&self, at: Spot, len: usize, byte: u8, turn: Option<&Turn<'_>>) {
        for (page, within, part) in Self::parts(at, len) {
            self.before_store(page);
            let va = VirtAddr::new(page * PAGE_SIZE as u64 + within as u64);
            let bytes = [byte; PAGE_SIZE];
            let result = self.process.space.write_bytes(va, &bytes[..part]).await;
            let grown = self.note_growth(page, turn, result.err());
            let verdict = self.process.with(|m| m.judge_copy(page, 0, Prot::RW));
            self.judge_copy(page, Access::Write, &verdict, result.map(|()| None));
            for (sample, offset) in SAMPLES.into_iter().enumerate() {
                if result.is_ok() && (within..within + part).contains(&offset) {
                    self.process.with(|m| m.store(page, sample, byte));
                }
            }
            self.unwire_growth(grown).await;
            if result.is_err() {
                break;
            }
        }
        self.process.space.made_progress();
    }
}
