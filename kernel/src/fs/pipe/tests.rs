use super::*;
use crate::fs::io::Uninterruptible;
use crate::fs::io::testing::Faulty;
use crate::fs::io::{Interrupted, VecSink};
use core::future::Future;
use core::pin::pin;
use futures_util::FutureExt;
use std::vec;
use std::vec::Vec;

const CX: Uninterruptible = Uninterruptible;

/// The result of a future that has no reason to wait.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("it should not have to wait")
}

fn read(reader: &Reader, limit: usize) -> Vec<u8> {
    let mut sink = VecSink::new(limit);
    let n = now(reader.read(&CX, &mut sink, Wait::Never)).unwrap();
    assert_eq!(n, sink.bytes.len());
    sink.bytes
}

fn write(writer: &Writer, mut bytes: &[u8]) -> Result<usize, FsError> {
    now(writer.write(&CX, &mut bytes, Wait::Never))
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

#[test]
fn bytes_come_out_in_order_across_the_ring() {
    let (reader, writer) = pipe();
    let all = pattern(5 * CAPACITY);
    let (mut sent, mut got) = (0, Vec::new());
    let mut step = 1;
    while got.len() < all.len() {
        step = step * 31 % 9973;
        let end = (sent + step).min(all.len());
        match write(&writer, &all[sent..end]) {
            Ok(n) => sent += n,
            Err(error) => assert_eq!(error, FsError::WouldBlock),
        }
        if step % 3 == 0 || sent == all.len() {
            got.extend(read(&reader, step));
        }
        assert_eq!(reader.available(), sent - got.len());
    }
    assert!(got == all);
}

#[test]
fn a_full_pipe_takes_what_fits_and_then_nothing() {
    let (reader, writer) = pipe();
    let all = pattern(CAPACITY + 100);
    assert_eq!(write(&writer, &all), Ok(CAPACITY));
    assert_eq!(write(&writer, b"x"), Err(FsError::WouldBlock));
    assert!(!writer.readiness().contains(Readiness::OUT));
    assert_eq!(read(&reader, 4095).len(), 4095);
    // Room for 4095 bytes: a write of 4096 is all or nothing.
    assert!(!writer.readiness().contains(Readiness::OUT));
    assert_eq!(write(&writer, &all[..PIPE_BUF]), Err(FsError::WouldBlock));
    assert_eq!(write(&writer, &all[..PIPE_BUF + 1]), Ok(4095));
}

#[test]
fn readers_wait_for_data_and_writers_for_room() {
    let (reader, writer) = pipe();
    let mut sink = VecSink::new(100);
    let mut reading = pin!(reader.read(&CX, &mut sink, Wait::Allowed));
    assert!(reading.as_mut().now_or_never().is_none());
    write(&writer, b"hello").unwrap();
    assert_eq!(reading.as_mut().now_or_never(), Some(Ok(5)));

    let all = pattern(CAPACITY + 10);
    let mut source = &all[..];
    let mut writing = pin!(writer.write(&CX, &mut source, Wait::Allowed));
    assert!(writing.as_mut().now_or_never().is_none());
    let mut got = read(&reader, 10);
    assert_eq!(writing.as_mut().now_or_never(), Some(Ok(CAPACITY + 10)));
    got.extend(read(&reader, CAPACITY));
    assert!(got == all);
}

#[test]
fn the_last_writer_ends_the_file_and_the_last_reader_breaks_the_pipe() {
    let (reader, writer) = pipe();
    write(&writer, b"rest").unwrap();
    let mut sink = VecSink::new(100);
    drop(writer);
    assert!(
        reader
            .readiness()
            .contains(Readiness::IN | Readiness::HANGUP)
    );
    assert_eq!(now(reader.read(&CX, &mut sink, Wait::Allowed)), Ok(4));
    assert_eq!(now(reader.read(&CX, &mut sink, Wait::Allowed)), Ok(0));

    let (reader, writer) = pipe();
    let mut sink = VecSink::new(1);
    let mut reading = pin!(reader.read(&CX, &mut sink, Wait::Allowed));
    assert!(reading.as_mut().now_or_never().is_none());
    drop(writer);
    assert_eq!(reading.as_mut().now_or_never(), Some(Ok(0)));

    let (reader, writer) = pipe();
    let all = pattern(CAPACITY + 1);
    let mut source = &all[..];
    let mut writing = pin!(writer.write(&CX, &mut source, Wait::Allowed));
    assert!(writing.as_mut().now_or_never().is_none());
    drop(reader);
    // What went before counts; the next write hears of it.
    assert_eq!(writing.as_mut().now_or_never(), Some(Ok(CAPACITY)));
    assert_eq!(write(&writer, b"x"), Err(FsError::BrokenPipe));
    assert!(writer.readiness().contains(Readiness::ERROR));
}

#[test]
fn a_sink_that_faults_consumes_only_what_it_took() {
    let (reader, writer) = pipe();
    let all = pattern(10_000);
    write(&writer, &all).unwrap();
    let mut sink = Faulty::sink(9_000, 1_000);
    assert_eq!(now(reader.read(&CX, &mut sink, Wait::Never)), Ok(9_000));
    assert!(sink.bytes == all[..9_000] && sink.faults >= 9);
    // The next sink breaks halfway: the rest stays in the pipe.
    let mut sink = Faulty {
        bad_at: 300,
        ..Faulty::sink(1_000, 100)
    };
    assert_eq!(now(reader.read(&CX, &mut sink, Wait::Never)), Ok(300));
    let mut sink = Faulty {
        bad_at: 0,
        ..Faulty::sink(1_000, 100)
    };
    let failed = now(reader.read(&CX, &mut sink, Wait::Never));
    assert_eq!(failed, Err(FsError::Fault));
    assert!(read(&reader, 1_000) == all[9_300..]);
}

#[test]
fn a_source_that_faults_publishes_small_writes_whole() {
    let (reader, writer) = pipe();
    let all = pattern(20_000);
    let mut source = Faulty::source(&all[..PIPE_BUF], 100);
    assert_eq!(
        now(writer.write(&CX, &mut source, Wait::Never)),
        Ok(PIPE_BUF)
    );
    // All of it was made resident at once.
    assert_eq!(source.faults, 1);
    assert!(read(&reader, PIPE_BUF) == all[..PIPE_BUF]);

    let mut source = Faulty {
        bad_at: 4_000,
        ..Faulty::source(&all[..PIPE_BUF], 100)
    };
    let failed = now(writer.write(&CX, &mut source, Wait::Never));
    assert_eq!(failed, Err(FsError::Fault));
    assert_eq!(reader.available(), 0);

    let mut source = Faulty {
        bad_at: 9_000,
        ..Faulty::source(&all, 100)
    };
    // Only whole chunks can be made resident before the bad byte.
    let n = now(writer.write(&CX, &mut source, Wait::Never)).unwrap();
    assert_eq!(n, 8_192);
    assert!(read(&reader, 9_000) == all[..n]);
}

#[test]
fn an_idle_pipe_holds_one_page() {
    let (reader, writer) = pipe();
    let pages = || {
        let state = reader.0.state.lock();
        state.ring.pages.iter().flatten().count()
    };
    assert_eq!(pages(), 0);
    write(&writer, &pattern(CAPACITY)).unwrap();
    assert_eq!(pages(), CAPACITY / RING_PAGE);
    read(&reader, CAPACITY / 2);
    assert_eq!(pages(), CAPACITY / RING_PAGE / 2);
    read(&reader, CAPACITY);
    assert_eq!(pages(), 1);
    for i in 0..1000u32 {
        write(&writer, &i.to_le_bytes()).unwrap();
        assert_eq!(read(&reader, 100), i.to_le_bytes());
        assert_eq!(pages(), 1);
    }
}

/// A sleeper that a signal reaches at once.
struct Signalled;

impl Sleeper for Signalled {
    async fn sleep<T: Send>(&self, wait: impl Future<Output = T> + Send) -> Result<T, Interrupted> {
        drop(wait);
        Err(Interrupted)
    }
}

#[test]
fn a_signal_breaks_a_wait_off_and_loses_nothing() {
    let (reader, writer) = pipe();
    let mut sink = VecSink::new(10);
    let broken = now(reader.read(&Signalled, &mut sink, Wait::Allowed));
    assert_eq!(broken, Err(FsError::Interrupted));
    let all = pattern(CAPACITY + 5_000);
    let mut source = &all[..];
    let short = now(writer.write(&Signalled, &mut source, Wait::Allowed));
    assert_eq!(short, Ok(CAPACITY));
    let mut one = &vec![1][..];
    let broken = now(writer.write(&Signalled, &mut one, Wait::Allowed));
    assert_eq!(broken, Err(FsError::Interrupted));
    assert!(read(&reader, CAPACITY) == all[..CAPACITY]);
}

/// Bytes of somebody who can wait for memory so many times, and then there is no hope.
struct Patient<'a> {
    bytes: &'a [u8],
    hope: usize,
    waits: usize,
}

impl IoSource for Patient<'_> {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }
    fn peek(&self, skip: usize, buf: &mut [u8]) -> usize {
        self.bytes.peek(skip, buf)
    }
    fn advance(&mut self, len: usize) {
        self.bytes.advance(len);
    }
    async fn await_memory(&mut self, _: &mut Patience) -> Result<(), FsError> {
        self.hope = self.hope.checked_sub(1).ok_or(FsError::OutOfMemory)?;
        self.waits += 1;
        Ok(())
    }
    async fn fault_in(&mut self, len: usize) -> Result<(), FsError> {
        self.bytes.fault_in(len).await
    }
}

/// Writes `bytes` while the next `refusals` pages of the ring are not to be had; the result, and the waits.
fn write_in_need(
    writer: &Writer,
    bytes: &[u8],
    refusals: usize,
    hope: usize,
) -> (Result<usize, FsError>, usize) {
    let mut source = Patient {
        bytes,
        hope,
        waits: 0,
    };
    writer.0.state.lock().ring.refusals = refusals;
    let result = now(writer.write(&CX, &mut source, Wait::Allowed));
    writer.0.state.lock().ring.refusals = 0;
    (result, source.waits)
}

#[test]
fn a_write_waits_for_memory_as_long_as_there_is_hope() {
    let all = pattern(3 * RING_PAGE);
    // A small one, and one of several pages.
    for len in [100, all.len()] {
        let (reader, writer) = pipe();
        let written = write_in_need(&writer, &all[..len], 3, usize::MAX);
        assert_eq!(written, (Ok(len), 3));
        assert!(read(&reader, len) == all[..len]);
        // Nothing was left half done.
        assert_eq!(reader.available(), 0);
    }
    let (reader, writer) = pipe();
    write(&writer, &all[..RING_PAGE - 1]).unwrap();
    // The rest of the first page is there; the second one is not.
    let written = write_in_need(&writer, &all[..2 * RING_PAGE], 2, 1);
    assert_eq!(written, (Ok(2 * RING_PAGE), 1));
    assert_eq!(read(&reader, CAPACITY).len(), 3 * RING_PAGE - 1);
}

#[test]
fn a_write_without_hope_of_memory_says_so_and_leaves_nothing() {
    let all = pattern(2 * RING_PAGE);
    let (reader, writer) = pipe();
    let none = Err(FsError::OutOfMemory);
    assert_eq!(write_in_need(&writer, &all, 9, 0), (none, 0));
    assert_eq!(write_in_need(&writer, &all, 9, 4), (none, 4));
    assert_eq!(reader.available(), 0);
    // What is written already counts.
    write(&writer, &all[..RING_PAGE - 1]).unwrap();
    assert_eq!(write_in_need(&writer, &all, 9, 0), (Ok(1), 0));
    // But a small write is whole or not at all.
    assert_eq!(write_in_need(&writer, b"ab", 9, 0), (none, 0));
    assert_eq!(read(&reader, CAPACITY).len(), RING_PAGE);
}
