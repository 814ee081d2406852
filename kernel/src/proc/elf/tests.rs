use super::*;
use std::vec::Vec;

const BUSYBOX: &str = "/bin/busybox";

/// The bytes of a program header.
pub(in crate::proc) fn phdr(
    kind: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    filesz: u64,
    memsz: u64,
) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(kind.to_le_bytes());
    out.extend(flags.to_le_bytes());
    for field in [offset, vaddr, vaddr, filesz, memsz, PAGE] {
        out.extend(field.to_le_bytes());
    }
    out
}

/// The bytes of a file that is nothing but its headers.
pub(in crate::proc) fn file(kind: u16, entry: u64, phdrs: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::from(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    out.extend(kind.to_le_bytes());
    out.extend(abi::EM_X86_64.to_le_bytes());
    out.extend(1u32.to_le_bytes());
    out.extend(entry.to_le_bytes());
    out.extend(64u64.to_le_bytes());
    out.extend(0u64.to_le_bytes());
    out.extend(0u32.to_le_bytes());
    for half in [64u16, 56, phdrs.len() as u16, 64, 0, 0] {
        out.extend(half.to_le_bytes());
    }
    for p in phdrs {
        out.extend(p);
    }
    out
}

fn load(bytes: &[u8], len: u64) -> Result<Image, ElfError> {
    let header = Header::parse(bytes)?;
    let start = usize::try_from(header.phoff).map_err(|_| ElfError::Truncated)?;
    let end = start
        .checked_add(header.table_len())
        .ok_or(ElfError::Truncated)?;
    Image::parse(
        &header,
        bytes.get(start..end).ok_or(ElfError::Truncated)?,
        len,
    )
}

#[test]
fn a_plain_executable() {
    let text = phdr(
        abi::PT_LOAD,
        abi::PF_R | abi::PF_X,
        0,
        0x40_0000,
        0x1234,
        0x1234,
    );
    let data = phdr(
        abi::PT_LOAD,
        abi::PF_R | abi::PF_W,
        0x2345,
        0x40_3345,
        0x100,
        0x5000,
    );
    let image = load(&file(abi::ET_EXEC, 0x40_0100, &[text, data]), 0x2445).unwrap();
    assert_eq!(image.entry, 0x40_0100);
    assert_eq!(image.phdr, 0x40_0040);
    assert_eq!(image.phnum, 2);
    assert_eq!(image.segments[0].tail(), None);
    let data = image.segments[1];
    assert_eq!(
        (data.start, data.map_end, data.end),
        (0x40_3000, 0x40_4000, 0x40_9000)
    );
    assert_eq!(data.file_offset, 0x2000);
    assert_eq!(data.tail(), Some(0x40_3445..0x40_4000));
    assert!(data.write && !data.exec);
    assert_eq!(image.brk, 0x40_9000);
}

#[test]
fn position_independent_goes_to_its_base() {
    let text = phdr(abi::PT_LOAD, abi::PF_R | abi::PF_X, 0, 0, 0x1000, 0x1000);
    let image = load(&file(abi::ET_DYN, 0x10, &[text]), 0x1000).unwrap();
    assert_eq!(image.entry, PIE_BASE + 0x10);
    assert_eq!(image.phdr, PIE_BASE + 64);
}

#[test]
fn bss_only_segment_has_no_file_pages() {
    let text = phdr(
        abi::PT_LOAD,
        abi::PF_R | abi::PF_X,
        0,
        0x40_0000,
        0x1000,
        0x1000,
    );
    let bss = phdr(
        abi::PT_LOAD,
        abi::PF_R | abi::PF_W,
        0x1010,
        0x40_2010,
        0,
        0x100,
    );
    let image = load(&file(abi::ET_EXEC, 0x40_0000, &[text, bss]), 0x1000 + 0x10).unwrap();
    let bss = image.segments[1];
    assert_eq!(
        (bss.start, bss.map_end, bss.end),
        (0x40_2000, 0x40_2000, 0x40_3000)
    );
    assert_eq!(bss.tail(), None);
}

#[test]
fn what_is_wrong_is_said() {
    let x = abi::PF_R | abi::PF_X;
    let load_one = |p: Vec<u8>| load(&file(abi::ET_EXEC, 0x40_0000, &[p]), 0x1000);
    assert_eq!(load(b"hello", 5), Err(ElfError::NotElf));
    assert_eq!(load(b"", 0), Err(ElfError::NotElf));
    assert_eq!(load(b"\x7fELF\x02\x01\x01", 7), Err(ElfError::Truncated));
    assert_eq!(
        load_one(phdr(abi::PT_INTERP, x, 0, 0, 1, 1)),
        Err(ElfError::NeedsInterpreter)
    );
    assert_eq!(
        load_one(phdr(abi::PT_NOTE, x, 0, 0, 1, 1)),
        Err(ElfError::NothingToLoad)
    );
    assert_eq!(
        load_one(phdr(abi::PT_LOAD, x, 0, 0x40_0000, 0x2000, 0x2000)),
        Err(ElfError::SegmentOutsideFile)
    );
    assert_eq!(
        load_one(phdr(abi::PT_LOAD, x, u64::MAX, 0x40_0fff, 2, 2)),
        Err(ElfError::SegmentOutsideFile)
    );
    assert_eq!(
        load_one(phdr(abi::PT_LOAD, x, 0, 0x40_0000, 16, 8)),
        Err(ElfError::SegmentSizes)
    );
    assert_eq!(
        load_one(phdr(abi::PT_LOAD, x, 0, 0x40_0010, 16, 16)),
        Err(ElfError::SegmentAlignment)
    );
    assert_eq!(
        load_one(phdr(abi::PT_LOAD, x, 0, 0, 16, 16)),
        Err(ElfError::SegmentOutsideMemory)
    );
    assert_eq!(
        load_one(phdr(abi::PT_LOAD, x, 0, u64::MAX - 0xfff, 16, u64::MAX)),
        Err(ElfError::SegmentOutsideMemory)
    );
    assert_eq!(
        load_one(phdr(abi::PT_LOAD, abi::PF_R, 0, 0x40_0000, 16, 16)),
        Err(ElfError::BadEntry)
    );
    let one = phdr(abi::PT_LOAD, x, 0, 0x40_0000, 16, 16);
    assert_eq!(
        load(
            &file(abi::ET_EXEC, 0x40_0000, &[one.clone(), one.clone()]),
            0x1000
        ),
        Err(ElfError::SegmentOverlap)
    );
    assert_eq!(
        load(&file(abi::ET_REL, 0, core::slice::from_ref(&one)), 0x1000),
        Err(ElfError::NotExecutable)
    );
    let mut other = file(abi::ET_EXEC, 0x40_0000, &[one]);
    other[18] = 40;
    assert_eq!(load(&other, 0x1000), Err(ElfError::WrongMachine));
    other[18] = 62;
    other[4] = 1;
    assert_eq!(load(&other, 0x1000), Err(ElfError::WrongClass));
}

/// A small fuzz loop: random damage to good headers is judged, never trusted, never a panic.
#[test]
fn damaged_files_never_panic() {
    let good = match std::fs::read(BUSYBOX) {
        Ok(bytes) => bytes[..4096].to_vec(),
        Err(_) => file(
            abi::ET_EXEC,
            0x40_0000,
            &[phdr(abi::PT_LOAD, 5, 0, 0x40_0000, 64, 64)],
        ),
    };
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for _ in 0..200_000 {
        let mut bytes = good.clone();
        for _ in 0..=next() % 4 {
            let at = next() as usize % 700.min(bytes.len());
            bytes[at] = match next() % 4 {
                0 => 0xff,
                1 => 0,
                _ => next() as u8,
            };
        }
        let len = if next() % 4 == 0 { next() % 5000 } else { 4096 };
        bytes.truncate(len as usize);
        if let Ok(image) = load(&bytes, bytes.len() as u64 * 1000) {
            let mut last = USER_MIN;
            for s in &image.segments {
                assert!(
                    s.start >= last - last % PAGE && s.start <= s.map_end && s.map_end <= s.end,
                    "{s:?}"
                );
                assert!(s.end <= IMAGE_MAX + PAGE, "{s:?}");
                last = s.end;
            }
        }
    }
}

#[test]
fn scripts() {
    let s = script(b"#! /bin/sh -x  y \nrest").unwrap();
    assert_eq!(
        s,
        Script {
            interpreter: b"/bin/sh",
            argument: Some(b"-x  y")
        }
    );
    assert_eq!(script(b"#!/bin/sh\n").unwrap().argument, None);
    assert_eq!(script(b"#!/bin/sh").unwrap().interpreter, b"/bin/sh");
    assert_eq!(script(b"#!\n"), None);
    assert_eq!(script(b"#/bin/sh\n"), None);
    let mut long = std::vec![b'a'; 400];
    long[..2].copy_from_slice(b"#!");
    assert_eq!(script(&long), None);
}
