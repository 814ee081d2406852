use super::*;
use crate::fs::io::{Uninterruptible, VecSink};
use core::pin::pin;
use core::sync::atomic::AtomicUsize;
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
    (Tty::new(screen.clone()), screen)
}

#[test]
fn output_is_complete_and_its_newlines_return() {
    let (tty, screen) = tty();
    screen.room.store(2, Relaxed);
    let text = b"one\ntwo\n\nthree".repeat(50);
    let mut source = &text[..];
    let written = tty.write(&Uninterruptible, &mut source).now_or_never();
    assert_eq!(written, Some(Ok(text.len())));
    assert_eq!(
        &*screen.shown.lock(),
        &b"one\r\ntwo\r\n\r\nthree".repeat(50)
    );
    screen.shown.lock().clear();
    tty.set_termios(Termios::raw(), Typed::Keep);
    let mut source = &b"a\nb"[..];
    tty.write(&Uninterruptible, &mut source)
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
