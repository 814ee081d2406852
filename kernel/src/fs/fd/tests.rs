use super::*;
use crate::fs::file::{OpenFile, OpenFlags};
use std::vec::Vec;
use uvm::km::HeapRoom;

fn file() -> Arc<OpenFile> {
    OpenFile::pipe(OpenFlags::empty(), &HeapRoom::at_boot()).0
}

fn insert(table: &FdTable) -> Result<Fd, FsError> {
    table.insert(file(), Fd(0), OnExec::Keep)
}

#[test]
fn the_lowest_free_number_is_taken() {
    let table = FdTable::new();
    for n in 0..200 {
        assert_eq!(insert(&table), Ok(Fd(n)));
    }
    for n in [150, 3, 64] {
        table.close(Fd(n)).unwrap();
    }
    for n in [3, 64, 150, 200] {
        assert_eq!(insert(&table), Ok(Fd(n)));
    }
    assert_eq!(table.insert(file(), Fd(500), OnExec::Keep), Ok(Fd(500)));
    assert_eq!(table.insert(file(), Fd(64), OnExec::Keep), Ok(Fd(201)));
}

#[test]
fn numbers_end_at_the_limit() {
    let table = FdTable::new();
    table.set_limit(100);
    for n in 0..100 {
        assert_eq!(insert(&table), Ok(Fd(n)));
    }
    assert_eq!(insert(&table), Err(FsError::TooManyFiles));
    let beyond = table.insert(file(), Fd(100), OnExec::Keep);
    assert_eq!(beyond, Err(FsError::Invalid));
    let beyond = table.replace(Fd(100), file(), OnExec::Keep);
    assert_eq!(beyond.err(), Some(FsError::BadDescriptor));
    table.set_limit(u32::MAX);
    assert_eq!(table.limit(), MAX_FILES);
    for n in 100..MAX_FILES {
        assert_eq!(insert(&table), Ok(Fd(n)));
    }
    assert_eq!(insert(&table), Err(FsError::TooManyFiles));
}

#[test]
fn closed_and_absurd_numbers_are_refused() {
    let table = FdTable::new();
    insert(&table).unwrap();
    for fd in [1, 63, 64, 1023, 1024, u32::MAX].map(Fd) {
        assert!(table.get(fd).is_err());
        assert!(table.close(fd).is_err());
        assert!(table.on_exec(fd).is_err());
        assert!(table.set_on_exec(fd, OnExec::Close).is_err());
    }
    table.close(Fd(0)).unwrap();
    assert!(table.get(Fd(0)).is_err());
    assert!(table.close(Fd(0)).is_err());
}

#[test]
fn replacing_hands_the_old_file_out() {
    let table = FdTable::new();
    let (old, new) = (file(), file());
    table.insert(old.clone(), Fd(0), OnExec::Close).unwrap();
    let out = table.replace(Fd(0), new.clone(), OnExec::Keep).unwrap();
    assert!(Arc::ptr_eq(&out.unwrap(), &old));
    assert!(Arc::ptr_eq(&table.get(Fd(0)).unwrap(), &new));
    assert_eq!(table.on_exec(Fd(0)), Ok(OnExec::Keep));
    assert!(table.replace(Fd(70), new, OnExec::Keep).unwrap().is_none());
    assert!(table.get(Fd(69)).is_err());
}

#[test]
fn a_fork_shares_files_and_exec_closes_marked_ones() {
    let table = FdTable::new();
    let files: Vec<_> = (0..130).map(|_| file()).collect();
    for (n, file) in files.iter().enumerate() {
        let on_exec = match n % 3 {
            0 => OnExec::Close,
            _ => OnExec::Keep,
        };
        table.insert(file.clone(), Fd(0), on_exec).unwrap();
    }
    let child = table.fork().unwrap();
    child.close_on_exec();
    for (n, file) in files.iter().enumerate() {
        let fd = Fd(n as u32);
        assert!(Arc::ptr_eq(&table.get(fd).unwrap(), file));
        match n % 3 {
            0 => assert!(child.get(fd).is_err()),
            _ => assert!(Arc::ptr_eq(&child.get(fd).unwrap(), file)),
        }
    }
    assert_eq!(child.next_open(Fd(0)), Some(Fd(1)));
    assert_eq!(child.next_open(Fd(3)), Some(Fd(4)));
    drop(child);
    table.close_all();
    assert_eq!(table.next_open(Fd(0)), None);
    assert!(files.iter().all(|file| Arc::strong_count(file) == 1));
    assert_eq!(insert(&table), Ok(Fd(0)));
}
