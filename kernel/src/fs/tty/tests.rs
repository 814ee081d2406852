use super::*;
use crate::fs::io::{Uninterruptible, VecSink};
use core::pin::pin;
use core::sync::atomic::AtomicUsize;
use core::time::Duration;
use executor::testing::Driver;
use futures_util::FutureExt;
use std::vec::Vec;

/// A screen with room for a few bytes at a time.
struct Screen {
    shown: SpinLock<Vec<u8>>,
    room: AtomicUsize,
}

#[async_trait]
impl Console for Screen {
    fn write(&self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.room.load(Relaxed));
        self.room.fetch_sub(n, Relaxed);
        self.shown.lock().extend(&bytes[..n]);
        n
    }

    async fn room(&self) {
        self.room.store(3, Relaxed);
    }
}

fn tty() -> (Arc<Tty>, Arc<Screen>) {
    let screen = Arc::new(Screen {
        shown: SpinLock::new(Vec::new()),
        room: AtomicUsize::new(1 << 20),
    });
    let executor = Driver::new().executor().clone();
    (Tty::new(screen.clone(), executor), screen)
}

#[test]
fn output_is_complete_and_its_newlines_return() {
    let (tty, screen) = tty();
    screen.room.store(2, Relaxed);
    let text = b"one\ntwo\n\nthree".repeat(50);
    let mut source = &text[..];
    let written = tty
        .write(&Uninterruptible, &mut source, Wait::Allowed)
        .now_or_never();
    assert_eq!(written, Some(Ok(text.len())));
    assert_eq!(
        &*screen.shown.lock(),
        &b"one\r\ntwo\r\n\r\nthree".repeat(50)
    );
    screen.shown.lock().clear();
    tty.set_termios(Termios::raw(), Typed::Keep);
    let mut source = &b"a\nb"[..];
    tty.write(&Uninterruptible, &mut source, Wait::Allowed)
        .now_or_never()
        .unwrap()
        .unwrap();
    assert_eq!(&*screen.shown.lock(), b"a\nb");
}

#[test]
fn readers_wait_for_a_line() {
    let (tty, screen) = tty();
    let mut sink = VecSink::new(100);
    let mut reading = pin!(tty.read(&Uninterruptible, &mut sink, Wait::Allowed));
    assert!(reading.as_mut().now_or_never().is_none());
    tty.input(b"hel");
    assert!(reading.as_mut().now_or_never().is_none());
    assert_eq!(tty.readiness(), Readiness::OUT);
    tty.input(b"lo\r");
    assert_eq!(tty.readiness(), Readiness::IN | Readiness::OUT);
    assert_eq!(reading.as_mut().now_or_never(), Some(Ok(6)));
    assert_eq!(&*screen.shown.lock(), b"hello\r\n");
    let mut sink = VecSink::new(100);
    let nothing = tty
        .read(&Uninterruptible, &mut sink, Wait::Never)
        .now_or_never();
    assert_eq!(nothing, Some(Err(FsError::WouldBlock)));
}

#[test]
fn an_interrupt_reaches_its_handler() {
    let (tty, screen) = tty();
    let heard = Arc::new(SpinLock::new(Vec::new()));
    let log = heard.clone();
    tty.set_signal_handler(Some(Arc::new(move |signal| log.lock().push(signal))));
    tty.input(b"ab\x03cd\x1a");
    assert_eq!(&*heard.lock(), &[Signal::Interrupt, Signal::Suspend]);
    assert_eq!(&*screen.shown.lock(), b"ab^Ccd^Z");
    tty.set_signal_handler(None);
    tty.input(b"\x03");
    assert_eq!(heard.lock().len(), 2);
}

#[test]
fn when_nobody_types_any_more_readers_get_the_rest_and_the_end() {
    let (tty, _) = tty();
    tty.input(b"last\n");
    tty.end_input();
    let mut sink = VecSink::new(64);
    let read = tty.read(&Uninterruptible, &mut sink, Wait::Allowed);
    assert_eq!(read.now_or_never(), Some(Ok(5)));
    let read = tty.read(&Uninterruptible, &mut sink, Wait::Allowed);
    assert_eq!(read.now_or_never(), Some(Ok(0)));
    assert!(tty.readiness().contains(Readiness::IN));
}

/// A raw terminal and the clock that its reads go by.
fn raw_tty(least: u8, time: u8) -> (Arc<Tty>, Driver) {
    let driver = Driver::new();
    let screen = Screen {
        shown: SpinLock::new(Vec::new()),
        room: AtomicUsize::new(1 << 20),
    };
    let tty = Tty::new(Arc::new(screen), driver.executor().clone());
    let mut raw = Termios::raw();
    raw.characters[index::VMIN] = least;
    raw.characters[index::VTIME] = time;
    tty.set_termios(raw, Typed::Keep);
    (tty, driver)
}

/// What a read of `limit` bytes gives, and when, where each key is typed at its time (all times in milliseconds).
fn timed_read(least: u8, time: u8, limit: usize, keys: &'static [(u64, u8)]) -> (Vec<u8>, u64) {
    let (tty, driver) = raw_tty(least, time);
    let (executor, typist) = (driver.executor().clone(), tty.clone());
    let clock = executor.clone();
    executor.spawn(executor::Class::Daemon, "typist", async move {
        for (at, key) in keys {
            clock.sleep_until(at * 1_000_000).await;
            typist.input(&[*key]);
        }
    });
    driver.run_until(async move {
        let mut sink = VecSink::new(limit);
        let read = tty.read(&Uninterruptible, &mut sink, Wait::Allowed).await;
        assert_eq!(read, Ok(sink.bytes.len()));
        (sink.bytes, executor.now() / 1_000_000)
    })
}

#[test]
fn raw_reads_wait_as_posix_says() {
    const KEYS: &[(u64, u8)] = &[(1000, b'a'), (1050, b'b'), (1300, b'c'), (1310, b'd')];
    // At least three bytes, however long they take.
    assert_eq!(timed_read(3, 0, 10, KEYS), (b"abc".to_vec(), 1300));
    // No more than are wanted.
    assert_eq!(timed_read(3, 0, 2, KEYS), (b"ab".to_vec(), 1050));
    // A gap of 0.1 s ends it, but the first byte is awaited for ever.
    assert_eq!(timed_read(3, 1, 10, KEYS), (b"ab".to_vec(), 1150));
    // The first byte, within the time or not at all.
    assert_eq!(timed_read(0, 20, 10, KEYS), (b"a".to_vec(), 1000));
    assert_eq!(timed_read(0, 5, 10, KEYS), (b"".to_vec(), 500));
    // At once.
    assert_eq!(timed_read(0, 0, 10, KEYS), (b"".to_vec(), 0));
}

#[test]
fn who_does_not_wait_gets_what_there_is() {
    let never = |tty: &Tty| {
        let mut sink = VecSink::new(10);
        tty.read(&Uninterruptible, &mut sink, Wait::Never)
            .now_or_never()
            .expect("it does not wait")
    };
    let (tty, driver) = raw_tty(3, 0);
    assert_eq!(never(&tty), Err(FsError::WouldBlock));
    tty.input(b"ab");
    assert!(!tty.readiness().contains(Readiness::IN));
    assert_eq!(never(&tty), Ok(2));
    let (tty, _driver) = raw_tty(0, 0);
    assert_eq!(never(&tty), Ok(0), "and not that it would block");
    driver.run_for(Duration::from_secs(1));
}

#[test]
fn output_that_is_held_back_waits() {
    let (tty, screen) = tty();
    tty.input(b"\x13");
    assert!(!tty.readiness().contains(Readiness::OUT));
    let mut source = &b"text\n"[..];
    {
        let mut writing = pin!(tty.write(&Uninterruptible, &mut source, Wait::Allowed));
        assert_eq!(writing.as_mut().now_or_never(), None);
        assert!(screen.shown.lock().is_empty());
        tty.input(b"\x11");
        assert_eq!(writing.as_mut().now_or_never(), Some(Ok(5)));
    }
    assert_eq!(&*screen.shown.lock(), b"text\r\n");
    tty.flow(Flow::Stop);
    let mut source = &b"more"[..];
    let write = tty.write(&Uninterruptible, &mut source, Wait::Never);
    assert_eq!(write.now_or_never(), Some(Err(FsError::WouldBlock)));
    // A signal lets it go on.
    tty.input(b"\x03");
    assert!(tty.readiness().contains(Readiness::OUT));
    tty.input(b"\x13");
    tty.set_termios(Termios::keys(), Typed::Keep);
    assert!(tty.readiness().contains(Readiness::OUT), "no key would");
    tty.ask(Flow::Stop);
    assert_eq!(screen.shown.lock().last(), Some(&0x13));
}

#[test]
fn output_is_processed_as_the_settings_have_it() {
    for (flags, shown) in [
        (OutputFlags::empty(), &b"a\nb\rc"[..]),
        (OutputFlags::ONLCR, b"a\nb\rc"),
        (OutputFlags::OPOST, b"a\nb\rc"),
        (OutputFlags::OPOST | OutputFlags::ONLCR, b"a\r\nb\rc"),
        (OutputFlags::OPOST | OutputFlags::OCRNL, b"a\nb\nc"),
    ] {
        let (tty, screen) = tty();
        let termios = Termios {
            output: flags.bits(),
            ..Termios::cooked()
        };
        tty.set_termios(termios, Typed::Keep);
        let mut source = &b"a\nb\rc"[..];
        let write = tty.write(&Uninterruptible, &mut source, Wait::Allowed);
        assert_eq!(write.now_or_never(), Some(Ok(5)));
        assert_eq!(&*screen.shown.lock(), shown, "{flags:?}");
    }
}

#[test]
fn a_line_is_shown_once_more() {
    let (tty, screen) = tty();
    tty.input(b"some\x01\x12");
    assert_eq!(&*screen.shown.lock(), b"some^A^R\r\nsome^A");
}

#[test]
fn another_size_is_told_once() {
    let (tty, _) = tty();
    let heard = Arc::new(SpinLock::new(Vec::new()));
    let log = heard.clone();
    tty.set_signal_handler(Some(Arc::new(move |signal| log.lock().push(signal))));
    let size = WindowSize {
        rows: 50,
        ..tty.window()
    };
    tty.set_window(size);
    tty.set_window(size);
    assert_eq!(&*heard.lock(), &[Signal::Window]);
}

#[test]
fn the_foreground_is_handed_over() {
    let (tty, _) = tty();
    assert_eq!(tty.owner(), Owner::NOBODY);
    tty.take_back(1, 7);
    assert_eq!(tty.owner().foreground, 7);
    tty.hand_over(8, 9);
    assert_eq!(tty.owner().foreground, 7);
    tty.hand_over(7, 9);
    assert_eq!(tty.owner().foreground, 9);
    let other = Owner {
        session: 5,
        foreground: 5,
    };
    tty.set_owner(other);
    tty.take_back(1, 7);
    assert_eq!(tty.owner(), other, "another session's");
}
