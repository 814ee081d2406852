use super::*;
use crate::fs::io::testing::Faulty;
use crate::fs::io::{Uninterruptible, VecSink};
use crate::fs::mount::Vfs;
use crate::fs::testing::{MemoryDisk, make_image, small_machine};
use crate::fs::{devfs::DevFs, ext2::Ext2, testing::NoConsole};
use core::ops::ControlFlow;
use core::pin::pin;
use executor::testing::Driver;
use futures_util::FutureExt;
use std::fs;
use std::vec::Vec;
use uvm::km::HeapRoom;

const CX: Uninterruptible = Uninterruptible;

fn with_files(test: impl AsyncFnOnce(Vfs)) {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("dev")).unwrap();
    let text: Vec<u8> = (0..20_000u32).map(|i| (i / 3) as u8).collect();
    fs::write(tree.join("file"), &text).unwrap();
    let image = make_image(&tree, 4096, 256, &[]);
    let machine = small_machine(8);
    let uvm = machine.uvm.clone();
    machine.run(async move {
        let disk = MemoryDisk::new(&uvm, image);
        let vfs = Vfs::new();
        vfs.mount_root(Ext2::mount(&uvm, disk, 1).await.unwrap())
            .unwrap();
        let dev = DevFs::new(Tty::new(
            Arc::new(NoConsole),
            Driver::new().executor().clone(),
        ));
        vfs.mount(b"/dev", dev).await.unwrap();
        test(vfs).await;
    });
    machine.check();
}

async fn open(vfs: &Vfs, path: &str) -> Arc<OpenFile> {
    let root = vfs.root().unwrap();
    let flags = OpenFlags::READ_WRITE;
    match vfs.open(&root, path.as_bytes(), flags).await {
        Err(FsError::ReadOnly | FsError::IsDirectory) => vfs
            .open(&root, path.as_bytes(), OpenFlags::empty())
            .await
            .unwrap(),
        file => file.unwrap(),
    }
}

async fn read(file: &OpenFile, len: usize) -> Vec<u8> {
    let mut sink = VecSink::new(len);
    file.read(&CX, &mut sink).await.unwrap();
    sink.bytes
}

fn byte(at: usize) -> u8 {
    (at / 3) as u8
}

#[test]
fn the_offset_is_shared_and_can_be_moved() {
    with_files(async |vfs| {
        let file = open(&vfs, "file").await;
        let same = file.clone();
        assert_eq!(read(&file, 3).await, [0, 0, 0]);
        assert_eq!(read(&same, 3).await, [1, 1, 1]);
        let mut sink = VecSink::new(1);
        file.read_at(&mut sink, 9_000).await.unwrap();
        assert_eq!(sink.bytes, [byte(9_000)]);
        assert_eq!(file.seek(0, Whence::Current).await, Ok(6));
        assert_eq!(file.seek(-10, Whence::End).await, Ok(19_990));
        assert_eq!(file.available().await, Ok(10));
        assert_eq!(read(&file, 100).await.len(), 10);
        assert_eq!(read(&file, 100).await, []);
        assert_eq!(file.seek(1 << 40, Whence::Start).await, Ok(1 << 40));
        assert_eq!(read(&file, 100).await, []);
        assert_eq!(file.seek(-1, Whence::Start).await, Err(FsError::Invalid));
        assert_eq!(
            file.seek(i64::MAX, Whence::End).await,
            Err(FsError::Overflow)
        );
        assert_eq!(file.seek(0, Whence::Current).await, Ok(1 << 40));
    });
}

#[test]
fn reads_resume_after_faults_of_the_buffer() {
    with_files(async |vfs| {
        let file = open(&vfs, "file").await;
        let mut sink = Faulty::sink(15_000, 1_000);
        assert_eq!(file.read_at(&mut sink, 100).await, Ok(15_000));
        assert!(sink.faults >= 15);
        assert!(
            sink.bytes
                .iter()
                .enumerate()
                .all(|(i, &b)| b == byte(100 + i))
        );
        let mut sink = Faulty {
            bad_at: 5_000,
            ..Faulty::sink(15_000, 700)
        };
        assert_eq!(file.read(&CX, &mut sink).await, Ok(5_000));
        assert_eq!(file.seek(0, Whence::Current).await, Ok(5_000));
        let mut sink = Faulty {
            bad_at: 0,
            ..Faulty::sink(10, 10)
        };
        assert_eq!(file.read(&CX, &mut sink).await, Err(FsError::Fault));
        let mut sink = Faulty {
            bad_at: 5_000,
            ..Faulty::sink(15_000, 700)
        };
        let zero = open(&vfs, "/dev/zero").await;
        assert_eq!(zero.read(&CX, &mut sink).await, Ok(5_000));
        assert!(sink.bytes.iter().all(|&b| b == 0));
    });
}

#[test]
fn devices_and_directories_behave() {
    with_files(async |vfs| {
        let null = open(&vfs, "/dev/null").await;
        assert_eq!(read(&null, 10).await, []);
        let mut source = &b"gone"[..];
        assert_eq!(null.write(&CX, &mut source).await, Ok(4));
        assert!(null.object().is_err());
        assert_eq!(null.attributes().represents.packed(), 0x103);
        assert_eq!(null.readiness(), Readiness::IN | Readiness::OUT);
        let directory = open(&vfs, "/").await;
        let read = directory.read(&CX, &mut VecSink::new(1)).await;
        assert_eq!(read, Err(FsError::IsDirectory));
        let mut source = &b"x"[..];
        let written = directory.write(&CX, &mut source).await;
        assert_eq!(written, Err(FsError::BadDescriptor));
        // Listing goes on where it stopped, and again from the start after a seek.
        for path in ["/", "/dev"] {
            let directory = open(&vfs, path).await;
            let mut rounds = Vec::new();
            for _ in 0..2 {
                directory.seek(0, Whence::Start).await.unwrap();
                let mut names = Vec::new();
                loop {
                    let before = names.len();
                    let mut emit = |entry: crate::fs::vnode::DirEntry<'_>| {
                        if names.len() > before {
                            return ControlFlow::Break(());
                        }
                        names.push(entry.name.to_vec());
                        ControlFlow::Continue(())
                    };
                    directory.read_dir(&mut emit).await.unwrap();
                    if names.len() == before {
                        break;
                    }
                }
                rounds.push(names);
            }
            assert_eq!(rounds[0], rounds[1]);
            assert!(rounds[0].len() >= 4);
        }
    });
}

#[test]
fn polling_many_files_wakes_for_any() {
    let (first, _first) = OpenFile::pipe(OpenFlags::empty(), &HeapRoom::at_boot());
    let (second, writer) = OpenFile::pipe(OpenFlags::empty(), &HeapRoom::at_boot());
    let files = [(first, Readiness::IN), (second, Readiness::IN)];
    let mut waiting = pin!(wait_any(&files));
    assert!(waiting.as_mut().now_or_never().is_none());
    let mut source = &b"x"[..];
    let written = writer.write(&CX, &mut source).now_or_never();
    assert_eq!(written, Some(Ok(1)));
    assert!(waiting.as_mut().now_or_never().is_some());
    drop(writer);
    let ready = files[1].0.wait_ready(Readiness::IN).now_or_never();
    assert_eq!(ready, Some(Readiness::IN | Readiness::HANGUP));
    assert!(wait_any(&[]).now_or_never().is_none());
}

#[test]
fn files_are_used_only_as_they_were_opened() {
    let (reader, writer) = OpenFile::pipe(OpenFlags::NONBLOCK, &HeapRoom::at_boot());
    let written = reader.write(&CX, &mut &b"x"[..]).now_or_never();
    assert_eq!(written, Some(Err(FsError::BadDescriptor)));
    let read = writer.read(&CX, &mut VecSink::new(1)).now_or_never();
    assert_eq!(read, Some(Err(FsError::BadDescriptor)));
    let seek = reader.seek(0, Whence::Start).now_or_never();
    assert_eq!(seek, Some(Err(FsError::IllegalSeek)));
    let read = reader.read(&CX, &mut VecSink::new(1)).now_or_never();
    assert_eq!(read, Some(Err(FsError::WouldBlock)));
    reader.set_status(OpenFlags::APPEND | OpenFlags::WRITE_ONLY);
    assert_eq!(reader.flags(), OpenFlags::APPEND);
    assert_eq!(reader.attributes().kind, Kind::Fifo);
}
