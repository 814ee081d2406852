//! The port against a model 16550.

use std::boxed::Box;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::vec::Vec;

use super::*;
use crate::testing::TestInterrupts;

const DLAB: u8 = 0x80;

/// A 16550 whose line the test holds in its hands.
#[derive(Clone, Default)]
struct Model(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    received: VecDeque<u8>,
    sent: Vec<u8>,
    interrupt_enable: u8,
    line_control: u8,
    fifo_control: u8,
    scratch: u8,
    divisor: [u8; 2],
    /// The transmitter never becomes ready.
    stuck: bool,
    absent: bool,
}

impl Registers for Model {
    fn read(&self, offset: u16) -> u8 {
        let mut state = self.0.lock().unwrap();
        let latch = state.line_control & DLAB != 0;
        match offset {
            _ if state.absent => 0xff,
            0 | 1 if latch => state.divisor[usize::from(offset)],
            0 => state.received.pop_front().unwrap_or(0),
            1 => state.interrupt_enable,
            2 => 0x01 | if state.fifo_control & 1 != 0 { 0xc0 } else { 0 },
            3 => state.line_control,
            5 => u8::from(!state.received.is_empty()) | if state.stuck { 0 } else { 0x60 },
            7 => state.scratch,
            _ => 0,
        }
    }

    fn write(&self, offset: u16, value: u8) {
        let mut state = self.0.lock().unwrap();
        let latch = state.line_control & DLAB != 0;
        match offset {
            0 | 1 if latch => state.divisor[usize::from(offset)] = value,
            0 => state.sent.push(value),
            1 => state.interrupt_enable = value,
            2 => state.fifo_control = value,
            3 => state.line_control = value,
            7 => state.scratch = value,
            _ => {}
        }
    }
}

impl Model {
    fn type_bytes(&self, bytes: &[u8]) {
        self.0.lock().unwrap().received.extend(bytes);
    }

    fn interrupt_on(&self) -> bool {
        self.0.lock().unwrap().interrupt_enable & 1 != 0
    }
}

fn listening() -> (Model, &'static Serial, TestInterrupts) {
    let model = Model::default();
    let serial: &'static Serial = Box::leak(Box::new(Serial::new(model.clone()).unwrap()));
    let interrupts = TestInterrupts::default();
    serial.listen(COM1_IRQ, &interrupts).unwrap();
    (model, serial, interrupts)
}

fn drain(serial: &Serial) -> Vec<u8> {
    core::iter::from_fn(|| serial.try_read()).collect()
}

#[test]
fn the_line_is_set_up_for_115200_8n1() {
    let (model, ..) = listening();
    let state = model.0.lock().unwrap();
    assert_eq!((state.divisor, state.line_control & 0x3f), ([1, 0], 0x03));
    assert_eq!(state.interrupt_enable, 1);
}

#[test]
fn an_absent_port_is_an_error() {
    let model = Model::default();
    model.0.lock().unwrap().absent = true;
    assert!(matches!(Serial::new(model), Err(SerialError::Device(_))));
}

#[test]
fn output_arrives_whole_and_in_order() {
    let (model, serial, _) = listening();
    let text: Vec<u8> = (0..1000u32).map(|n| n as u8).collect();
    serial.write(&text);
    assert_eq!(model.0.lock().unwrap().sent, text);
}

#[test]
fn a_stuck_transmitter_loses_bytes_and_not_the_machine() {
    let (model, serial, _) = listening();
    model.0.lock().unwrap().stuck = true;
    serial.write(b"lost");
    assert!(model.0.lock().unwrap().sent.is_empty());
}

#[test]
fn input_comes_by_interrupt() {
    let (model, serial, interrupts) = listening();
    model.type_bytes(b"ls\r");
    assert_eq!(serial.try_read(), None, "not before the interrupt");
    interrupts.fire_isa(COM1_IRQ);
    assert_eq!(drain(serial), b"ls\r");
}

#[test]
fn a_reader_that_waits_is_woken() {
    let (model, serial, interrupts) = listening();
    let woken = Arc::new(CountingWaker::default());
    let waker = woken.clone().into();
    let mut context = core::task::Context::from_waker(&waker);
    let mut read = core::pin::pin!(serial.read_byte());
    assert!(read.as_mut().poll(&mut context).is_pending());
    model.type_bytes(b"x");
    interrupts.fire_isa(COM1_IRQ);
    assert!(woken.0.load(SeqCst));
    assert_eq!(read.as_mut().poll(&mut context), Poll::Ready(b'x'));
}

#[derive(Default)]
struct CountingWaker(AtomicBool);

impl std::task::Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn pasted_text_waits_in_the_device_while_the_queue_is_full() {
    let (model, serial, interrupts) = listening();
    let text: Vec<u8> = (0..5 * INPUT as u32).map(|n| (n % 251) as u8).collect();
    model.type_bytes(&text);
    let mut read = Vec::new();
    for _ in 0..100 {
        if !model.interrupt_on() {
            read.extend(serial.try_read());
            while !model.interrupt_on() {
                read.extend(serial.try_read());
            }
        }
        interrupts.fire_isa(COM1_IRQ);
        if model.0.lock().unwrap().received.is_empty() {
            break;
        }
        assert!(
            !model.interrupt_on(),
            "more to come only after a reader has made room"
        );
    }
    read.extend(drain(serial));
    assert_eq!(read, text);
    assert!(model.interrupt_on());
}

#[test]
fn without_an_interrupt_only_output_works() {
    let model = Model::default();
    let serial: &'static Serial = Box::leak(Box::new(Serial::new(model.clone()).unwrap()));
    let none = TestInterrupts::limited(0);
    assert!(matches!(
        serial.listen(COM1_IRQ, &none),
        Err(SerialError::NoInterrupt)
    ));
    assert!(!model.interrupt_on());
    serial.write(b"ok");
    assert_eq!(model.0.lock().unwrap().sent, b"ok");
}
