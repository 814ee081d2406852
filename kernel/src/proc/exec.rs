//! From a file to a program: a new address space with everything in it, ready to run.
//!
//! `load` builds the whole new space before anything of the old one is touched, so every error finds the
//! caller as it was: there is no point of no return to be handled. Segments are mapped from the vnode's
//! object and never copied; what must be written (the zeroes behind the data, the first stack) goes through
//! the new space's own faults.

use super::Processes;
use super::body::Current;
use super::elf::{self, ElfError, Image, Segment};
use super::limits::Limits;
use super::machine;
use super::process::Name;
use super::stack::{
    self, Aux, STACK_GAP, STACK_SIZE, STACK_START, STACK_TOP, Strings, StringsError,
};
use crate::fs::FsError;
use crate::fs::file::{OpenFile, OpenFlags};
use crate::fs::mount::Location;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use uvm::VmSpace;
use uvm::addr::{PageIndex, VirtAddr};
use uvm::fault::FaultError;
use uvm::map::{MapRequest, Placement, VmError};
use uvm::prot::Prot;

/// How deep scripts may be interpreted by scripts.
const MAX_SCRIPTS: usize = 4;
/// Bytes read from the file's beginning: headers are nearly always all there.
const HEAD_LEN: usize = uvm::PAGE_SIZE;

/// Why a file is not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    /// It could not be found or read.
    #[error("{0}")]
    File(#[from] FsError),
    /// It is no program that can run here.
    #[error("{0}")]
    Format(#[from] ElfError),
    /// Arguments and environment are too long, or there is no memory to hold them.
    #[error("{0}")]
    Strings(#[from] StringsError),
    /// Scripts interpreted by scripts, too deep.
    #[error("too many levels of interpreters")]
    TooManyScripts,
    /// No memory for its address space.
    #[error("{0}")]
    Memory(#[from] VmError),
    /// Its first pages could not be brought in.
    #[error("{0}")]
    Fault(#[from] FaultError),
    /// The process ends, by another of its threads.
    #[error("the process is ending")]
    Ending,
}

impl ExecError {
    /// Whether there was no memory for it at the moment: another attempt may find some.
    #[must_use]
    pub fn is_shortage(&self) -> bool {
        matches!(
            self,
            Self::File(FsError::OutOfMemory)
                | Self::Strings(StringsError::OutOfMemory)
                | Self::Memory(VmError::OutOfMemory)
        )
    }
}

/// A program ready to run.
pub(super) struct Loaded {
    pub space: Arc<VmSpace>,
    pub entry: u64,
    pub sp: u64,
    pub name: Name,
}

/// What to run.
pub(super) struct Request<'a> {
    /// Where relative paths begin.
    pub base: &'a Location,
    pub path: &'a [u8],
    pub argv: Strings,
    pub envp: Strings,
    /// What it may use.
    pub limits: Arc<Limits>,
}

/// Builds the address space of a new program. Awaits the file's pages.
///
/// # Errors
/// See [`ExecError`]; nothing is left behind.
pub(super) async fn load(system: &Processes, request: Request<'_>) -> Result<Loaded, ExecError> {
    let Request {
        base,
        path,
        mut argv,
        envp,
        limits,
    } = request;
    let name = Name::of_path(path);
    let mut path: Vec<u8> = path.to_vec();
    for _ in 0..=MAX_SCRIPTS {
        let file = open(system, base, &path).await?;
        let mut head = Vec::new();
        read(&file, 0, HEAD_LEN, &mut head).await?;
        if let Some(script) = elf::script(&head) {
            let mut new = Strings::new();
            new.push(script.interpreter)?;
            script
                .argument
                .map_or(Ok(()), |argument| new.push(argument))?;
            new.push(&path)?;
            new.append(&argv, 1)?;
            argv = new;
            path = script.interpreter.to_vec();
            continue;
        }
        let image = image(&file, &head).await?;
        drop(head);
        let space = VmSpace::new(system.uvm())?;
        space.set_limits(limits.of_space());
        // In a block of its own, so that neither is more than a page; that there is memory, `VmSpace::new` has seen just now.
        let fill = Box::pin(fill(system, &space, &file, &image, &path, &argv, &envp));
        return match fill.await {
            Ok(sp) => Ok(Loaded {
                space,
                entry: image.entry,
                sp,
                name,
            }),
            Err(error) => {
                space.teardown().await;
                Err(error)
            }
        };
    }
    Err(ExecError::TooManyScripts)
}

async fn open(
    system: &Processes,
    base: &Location,
    path: &[u8],
) -> Result<Arc<OpenFile>, ExecError> {
    let file = system.vfs().open(base, path, OpenFlags::empty()).await?;
    // Only regular files have an object; directories and devices are refused as Linux does.
    if file.object().is_err() || !file.attributes().is_executable() {
        return Err(FsError::Permission.into());
    }
    Ok(file)
}

/// Appends `len` bytes of the file at `offset` to the empty `to`, fewer at the end of the file.
async fn read(file: &OpenFile, offset: u64, len: usize, to: &mut Vec<u8>) -> Result<(), ExecError> {
    to.try_reserve_exact(len)
        .map_err(|_| FsError::OutOfMemory)?;
    to.resize(len, 0);
    let mut sink = &mut to[..];
    let n = file.read_at(&mut sink, offset).await?;
    to.truncate(n);
    Ok(())
}

async fn image(file: &OpenFile, head: &[u8]) -> Result<Image, ExecError> {
    let header = elf::Header::parse(head)?;
    let size = file.object()?.size();
    let end = usize::try_from(header.phoff).ok().and_then(|start| {
        let end = start.checked_add(header.table_len())?;
        head.get(start..end)
    });
    if let Some(table) = end {
        return Ok(Image::parse(&header, table, size)?);
    }
    let mut table = Vec::new();
    read(file, header.phoff, header.table_len(), &mut table).await?;
    Ok(Image::parse(&header, &table, size)?)
}

/// Maps and writes everything; returns the first stack pointer.
async fn fill(
    system: &Processes,
    space: &Arc<VmSpace>,
    file: &OpenFile,
    image: &Image,
    path: &[u8],
    argv: &Strings,
    envp: &Strings,
) -> Result<u64, ExecError> {
    for segment in &image.segments {
        map_segment(space, file, segment)?;
        if let Some(tail) = segment.tail().filter(|_| segment.write) {
            zero(space, tail.start, tail.end).await?;
        }
    }
    space.set_brk_start(VirtAddr::new(image.brk));
    space.set_top(VirtAddr::new(STACK_TOP - STACK_SIZE - STACK_GAP));
    let mut stack = MapRequest::anonymous(STACK_START as usize, Prot::RW)
        .at(Placement::Fixed(VirtAddr::new(STACK_TOP - STACK_START)));
    stack.grows = true;
    space.map(stack)?;
    let mut random = [0; 16];
    system.random(&mut random);
    let first = stack::build(
        image,
        path,
        argv,
        envp,
        &Aux {
            random,
            hwcap: machine::hwcap(),
        },
    )?;
    let mut at = first.sp;
    for piece in first.bytes.pieces() {
        let written = space.write_bytes(VirtAddr::new(at), piece).await;
        written.map_err(|error| match error {
            // The stack may not grow so far.
            FaultError::NoMapping => ExecError::Strings(StringsError::TooLong),
            error => error.into(),
        })?;
        at += piece.len() as u64;
    }
    Ok(first.sp)
}

fn map_segment(space: &Arc<VmSpace>, file: &OpenFile, s: &Segment) -> Result<(), ExecError> {
    let mut prot = Prot::empty();
    prot.set(Prot::READ, s.read);
    prot.set(Prot::WRITE, s.write);
    prot.set(Prot::EXEC, s.exec);
    let at = |va| Placement::Fixed(VirtAddr::new(va));
    if s.map_end > s.start {
        let object = file.object()?.object().object().clone();
        let offset = PageIndex::containing(s.file_offset);
        space.map(
            MapRequest::object(object, offset, (s.map_end - s.start) as usize, prot)
                .at(at(s.start)),
        )?;
    }
    if s.end > s.map_end {
        space.map(MapRequest::anonymous((s.end - s.map_end) as usize, prot).at(at(s.map_end)))?;
    }
    Ok(())
}

async fn zero(space: &Arc<VmSpace>, mut from: u64, to: u64) -> Result<(), ExecError> {
    static ZEROES: [u8; 512] = [0; 512];
    while from < to {
        let len = (to - from).min(ZEROES.len() as u64);
        space
            .write_bytes(VirtAddr::new(from), &ZEROES[..len as usize])
            .await?;
        from += len;
    }
    Ok(())
}

/// Replaces the running program. On success the thread's registers are the new program's.
///
/// # Errors
/// See [`ExecError`]; the old program goes on.
pub async fn exec(
    current: &mut Current,
    path: &[u8],
    argv: Strings,
    envp: Strings,
) -> Result<(), ExecError> {
    let (system, process) = (current.system().clone(), current.process().clone());
    let base = process.cwd().ok_or(FsError::NotFound)?;
    let loaded = load(
        &system,
        Request {
            base: &base,
            path,
            argv,
            envp,
            limits: process.limits(),
        },
    )
    .await?;
    // Nothing fails from here on, but that the process ends meanwhile.
    let (lwp, tid) = (current.lwp().clone(), current.lwp().tid());
    if process
        .threads()
        .be_alone(&lwp, process.pid())
        .await
        .is_err()
    {
        loaded.space.teardown().await;
        return Err(ExecError::Ending);
    }
    system.table().lock().forget_thread(tid);
    process.files().close_on_exec();
    process.signals().lock().exec();
    if let Some(timers) = process.timers() {
        timers.exec();
    }
    process.set_name(loaded.name);
    system.table().lock().executed(process.pid());
    current.enter(loaded.space, loaded.entry, loaded.sp).await;
    Ok(())
}
