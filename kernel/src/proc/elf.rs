//! The ELF loader's judgement: which bytes of an executable file go where, or why the file is refused.
//!
//! Works on bytes alone: the caller (see [`super::exec`]) reads the header and the program header table
//! from the vnode and maps what the [`Image`] says. Parsing is the `elf` crate's; every number that comes
//! out of it is checked here before anything is done with it, so a damaged file is refused with the
//! reason and never panics. Holds no state.

use arrayvec::ArrayVec;
use elf::abi;
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::parse::{ParseError, ParsingIterator};
use elf::segment::ProgramHeader;
use uvm::PAGE_SIZE;

/// Bytes of an ELF64 file header.
pub const HEADER_LEN: usize = 64;
/// Bytes of one ELF64 program header.
pub const PHDR_LEN: usize = 56;
/// Most program headers that a file may have: the table fits a page.
pub const MAX_PHDRS: usize = PAGE as usize / PHDR_LEN;
/// Most loadable segments that a file may have.
pub const MAX_SEGMENTS: usize = 16;
/// Where a position-independent executable is put (no randomisation: runs repeat).
pub const PIE_BASE: u64 = 0x5555_5555_4000;
/// Lowest address that an executable may ask for.
pub const USER_MIN: u64 = 0x1_0000;
/// End of what an executable may ask for; leaves room for the stack and mappings above.
pub const IMAGE_MAX: u64 = 0x7fff_0000_0000;

const PAGE: u64 = PAGE_SIZE as u64;

/// Why an executable file is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// The file does not begin with the ELF magic.
    #[error("not an ELF file")]
    NotElf,
    /// The file ends inside a header or table.
    #[error("the file ends inside its headers")]
    Truncated,
    /// 32-bit or big-endian.
    #[error("not a 64-bit little-endian ELF file")]
    WrongClass,
    /// Made for another processor.
    #[error("made for another processor")]
    WrongMachine,
    /// Not an executable (an object file, a core file, ..).
    #[error("not an executable")]
    NotExecutable,
    /// Needs a dynamic linker.
    #[error("dynamically linked: only static executables can run")]
    NeedsInterpreter,
    /// The program header table has an impossible size or entry size.
    #[error("impossible program header table")]
    BadProgramHeaders,
    /// No loadable segment.
    #[error("nothing to load")]
    NothingToLoad,
    /// More loadable segments than [`MAX_SEGMENTS`].
    #[error("too many segments")]
    TooManySegments,
    /// A segment's file part lies outside the file.
    #[error("a segment lies outside the file")]
    SegmentOutsideFile,
    /// A segment's addresses wrap around or lie outside user memory.
    #[error("a segment lies outside user memory")]
    SegmentOutsideMemory,
    /// A segment has less memory than file.
    #[error("a segment is larger in the file than in memory")]
    SegmentSizes,
    /// File offset and address of a segment differ within a page, so it cannot be mapped.
    #[error("a segment is not aligned to pages")]
    SegmentAlignment,
    /// Segments are out of order or share a page.
    #[error("segments overlap or are out of order")]
    SegmentOverlap,
    /// The entry point is not inside an executable segment.
    #[error("the entry point is not in an executable segment")]
    BadEntry,
}

/// One loadable segment, as it is to be mapped.
///
/// `start` and `file_offset` are multiples of the page size; the pages `start..map_end` come from the
/// file, `map_end..end` are anonymous; of the file's last page, everything from `file_end` to the end
/// of the page is zeroed if `end > file_end` (the bss begins there).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First address, a multiple of the page size.
    pub start: u64,
    /// End of the pages backed by the file, a multiple of the page size.
    pub map_end: u64,
    /// End of the bytes that come from the file.
    pub file_end: u64,
    /// End of the segment's pages, a multiple of the page size.
    pub end: u64,
    /// Offset of `start` in the file, a multiple of the page size.
    pub file_offset: u64,
    /// End of the segment in bytes, not rounded.
    pub mem_end: u64,
    /// Loads allowed.
    pub read: bool,
    /// Stores allowed.
    pub write: bool,
    /// Instruction fetches allowed.
    pub exec: bool,
}

impl Segment {
    /// Whether the tail of the last file page must be zeroed: there is bss behind the file's bytes.
    #[must_use]
    pub fn tail(&self) -> Option<core::ops::Range<u64>> {
        (self.mem_end > self.file_end && self.file_end < self.map_end)
            .then_some(self.file_end..self.map_end)
    }
}

/// What the first bytes of the file say: where the program headers are.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Byte offset of the program header table.
    pub phoff: u64,
    /// Number of program headers.
    pub phnum: usize,
    entry: u64,
    bias: u64,
}

impl Header {
    /// Reads the file header out of the first bytes of a file.
    ///
    /// # Errors
    /// Says why the file cannot be run here.
    pub fn parse(start: &[u8]) -> Result<Header, ElfError> {
        if start.len() < 4 || start[..4] != abi::ELFMAGIC {
            return Err(ElfError::NotElf);
        }
        let bytes = start.get(..HEADER_LEN).ok_or(ElfError::Truncated)?;
        let ident = parse_ident::<LittleEndian>(bytes).map_err(|e| match e {
            ParseError::BadMagic(_) => ElfError::NotElf,
            _ => ElfError::WrongClass,
        })?;
        if ident.1 != Class::ELF64 {
            return Err(ElfError::WrongClass);
        }
        let header = FileHeader::parse_tail(ident, &bytes[abi::EI_NIDENT..])
            .map_err(|_| ElfError::Truncated)?;
        if header.e_machine != abi::EM_X86_64 {
            return Err(ElfError::WrongMachine);
        }
        let bias = match header.e_type {
            abi::ET_EXEC => 0,
            abi::ET_DYN => PIE_BASE,
            _ => return Err(ElfError::NotExecutable),
        };
        let phnum = usize::from(header.e_phnum);
        if usize::from(header.e_phentsize) != PHDR_LEN || phnum == 0 || phnum > MAX_PHDRS {
            return Err(ElfError::BadProgramHeaders);
        }
        Ok(Header {
            phoff: header.e_phoff,
            phnum,
            entry: header.e_entry,
            bias,
        })
    }

    /// Bytes of the program header table.
    #[must_use]
    pub fn table_len(&self) -> usize {
        self.phnum * PHDR_LEN
    }
}

/// A checked executable: what to map, where to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// First instruction.
    pub entry: u64,
    /// Where the program headers appear in memory (AT_PHDR), 0 if they do not.
    pub phdr: u64,
    /// Number of program headers (AT_PHNUM).
    pub phnum: u64,
    /// Where the heap begins: the first page after the image.
    pub brk: u64,
    /// What to map, in ascending order, sharing no page.
    pub segments: ArrayVec<Segment, MAX_SEGMENTS>,
}

impl Image {
    /// Judges the program header table `table` (of [`Header::table_len`] bytes) of a file of `file_len`
    /// bytes.
    ///
    /// # Errors
    /// Says why the file cannot be run here.
    pub fn parse(header: &Header, table: &[u8], file_len: u64) -> Result<Image, ElfError> {
        let table = table.get(..header.table_len()).ok_or(ElfError::Truncated)?;
        let mut segments = ArrayVec::<Segment, MAX_SEGMENTS>::new();
        let mut phdr = 0;
        for p in
            ParsingIterator::<LittleEndian, ProgramHeader>::new(LittleEndian, Class::ELF64, table)
        {
            match p.p_type {
                abi::PT_INTERP => return Err(ElfError::NeedsInterpreter),
                abi::PT_LOAD if p.p_memsz == 0 && p.p_filesz == 0 => {}
                abi::PT_LOAD => {
                    let segment = segment(&p, header.bias, file_len)?;
                    if segments
                        .last()
                        .is_some_and(|last: &Segment| segment.start < last.end)
                    {
                        return Err(ElfError::SegmentOverlap);
                    }
                    phdr = phdr.max(table_in_segment(&p, header));
                    segments
                        .try_push(segment)
                        .map_err(|_| ElfError::TooManySegments)?;
                }
                _ => {}
            }
        }
        let brk = segments.last().ok_or(ElfError::NothingToLoad)?.end;
        let entry = header.entry.wrapping_add(header.bias);
        if !segments
            .iter()
            .any(|s| s.exec && (s.start..s.mem_end).contains(&entry))
        {
            return Err(ElfError::BadEntry);
        }
        Ok(Image {
            entry,
            phdr,
            phnum: header.phnum as u64,
            brk,
            segments,
        })
    }
}

/// Address of the program header table if segment `p` holds all of it, else 0. `p` is checked.
fn table_in_segment(p: &ProgramHeader, header: &Header) -> u64 {
    let Some(table_end) = header.phoff.checked_add(header.table_len() as u64) else {
        return 0;
    };
    if header.phoff >= p.p_offset && table_end <= p.p_offset + p.p_filesz {
        header.bias + p.p_vaddr + (header.phoff - p.p_offset)
    } else {
        0
    }
}

fn segment(p: &ProgramHeader, bias: u64, file_len: u64) -> Result<Segment, ElfError> {
    if p.p_filesz > p.p_memsz {
        return Err(ElfError::SegmentSizes);
    }
    let file_stop = p
        .p_offset
        .checked_add(p.p_filesz)
        .ok_or(ElfError::SegmentOutsideFile)?;
    if file_stop > file_len {
        return Err(ElfError::SegmentOutsideFile);
    }
    if p.p_offset % PAGE != p.p_vaddr % PAGE {
        return Err(ElfError::SegmentAlignment);
    }
    let vaddr = p
        .p_vaddr
        .checked_add(bias)
        .ok_or(ElfError::SegmentOutsideMemory)?;
    let mem_end = vaddr
        .checked_add(p.p_memsz)
        .ok_or(ElfError::SegmentOutsideMemory)?;
    if vaddr < USER_MIN || mem_end > IMAGE_MAX {
        return Err(ElfError::SegmentOutsideMemory);
    }
    let start = vaddr - vaddr % PAGE;
    let file_end = vaddr + p.p_filesz;
    // A segment without file bytes is all bss, even when its address is in the middle of a page.
    let map_end = if p.p_filesz == 0 {
        start
    } else {
        file_end.next_multiple_of(PAGE)
    };
    Ok(Segment {
        start,
        map_end,
        file_end: if p.p_filesz == 0 { start } else { file_end },
        end: mem_end.next_multiple_of(PAGE),
        file_offset: p.p_offset - p.p_offset % PAGE,
        mem_end,
        read: p.p_flags & abi::PF_R != 0,
        write: p.p_flags & abi::PF_W != 0,
        exec: p.p_flags & abi::PF_X != 0,
    })
}

/// The interpreter line of a script: `#!` path and at most one argument, as Linux reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Script<'a> {
    /// The interpreter's path.
    pub interpreter: &'a [u8],
    /// The rest of the line, without surrounding blanks.
    pub argument: Option<&'a [u8]>,
}

/// Reads a `#!` line out of the first bytes of a file; `None` if it is no script (or a line of nothing).
///
/// A line that does not end within the first 256 bytes is cut there only if the path itself is whole.
#[must_use]
pub fn script(start: &[u8]) -> Option<Script<'_>> {
    let line = start.strip_prefix(b"#!")?;
    let line = &line[..line.len().min(254)];
    let (line, whole) = match line.iter().position(|&b| b == b'\n') {
        Some(end) => (&line[..end], true),
        None => (line, line.len() < 254),
    };
    let line = line.trim_ascii();
    let end = line.iter().position(|b| *b == b' ' || *b == b'\t');
    let (interpreter, rest) = match end {
        Some(end) => (&line[..end], line[end..].trim_ascii()),
        None if whole => (line, &[][..]),
        None => return None,
    };
    (!interpreter.is_empty()).then_some(Script {
        interpreter,
        argument: (!rest.is_empty()).then_some(rest),
    })
}

#[cfg(test)]
pub(super) mod tests;
