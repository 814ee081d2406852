//! The controller's set-up against a model i8042, and what keys send.

use std::boxed::Box;
use std::collections::VecDeque;
use std::string::String;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use super::keys::Keys;
use super::*;
use crate::testing::TestInterrupts;

/// An i8042 with a keyboard.
#[derive(Clone, Default)]
struct Model(Arc<Mutex<State>>);

struct State {
    output: VecDeque<(u8, bool)>,
    config: u8,
    keyboard_on: bool,
    scanning: bool,
    command: u8,
    /// What the parts answer; `None` is silence.
    self_test: Option<u8>,
    port_test: Option<u8>,
    acknowledge: VecDeque<u8>,
    reset: Option<u8>,
    absent: bool,
    deaf: bool,
}

impl Default for State {
    fn default() -> State {
        State {
            // A key and a mouse movement from before.
            output: VecDeque::from([(0x1e, false), (0x08, true)]),
            config: 0x47,
            keyboard_on: true,
            scanning: false,
            command: 0,
            self_test: Some(0x55),
            port_test: Some(0),
            acknowledge: VecDeque::from([0xfe, 0xfa, 0xfa]),
            reset: Some(0xaa),
            absent: false,
            deaf: false,
        }
    }
}

impl Registers for Model {
    fn read(&self, offset: u16) -> u8 {
        let mut state = self.0.lock().unwrap();
        if state.absent {
            return 0xff;
        }
        match offset {
            DATA => state.output.pop_front().map_or(0, |(byte, _)| byte),
            STATUS => {
                let front = state.output.front();
                let aux = front.is_some_and(|&(_, aux)| aux);
                u8::from(front.is_some()) | u8::from(state.deaf) << 1 | u8::from(aux) << 5
            }
            _ => panic!("no such register"),
        }
    }

    fn write(&self, offset: u16, value: u8) {
        let mut state = self.0.lock().unwrap();
        let state = &mut *state;
        let mut answer = |byte: Option<u8>| state.output.extend(byte.map(|byte| (byte, false)));
        match (offset, state.command) {
            (STATUS, _) => {
                state.command = 0;
                match value {
                    0x20 => answer(Some(state.config)),
                    0xaa => {
                        state.config = 0x30;
                        answer(state.self_test);
                    }
                    0xab => answer(state.port_test),
                    0xad => state.keyboard_on = false,
                    0xae => state.keyboard_on = true,
                    0xa7 => {}
                    0x60 => state.command = value,
                    _ => panic!("command {value:#x}"),
                }
            }
            (DATA, 0x60) => {
                state.config = value;
                state.command = 0;
            }
            (DATA, _) => {
                assert!(state.keyboard_on);
                let acknowledge = state.acknowledge.pop_front();
                answer(acknowledge);
                if acknowledge == Some(0xfa) && value == 0xff {
                    answer(state.reset);
                }
                state.scanning |= acknowledge == Some(0xfa) && value == 0xf4;
            }
            _ => panic!("no such register"),
        }
    }
}

fn outcome(change: impl FnOnce(&mut State)) -> Result<Model, Ps2Error> {
    let model = Model::default();
    change(&mut model.0.lock().unwrap());
    Keyboard::new(model.clone()).map(|_| model)
}

#[test]
fn the_controller_ends_up_translating_with_its_interrupt_on() {
    let model = outcome(|_| {}).unwrap();
    let state = model.0.lock().unwrap();
    assert_eq!(
        state.config, 0x65,
        "interrupt, system flag, translation, mouse clock off"
    );
    assert!(state.keyboard_on && state.scanning && state.output.is_empty());
}

#[test]
fn each_failure_has_its_error() {
    let error = |change: fn(&mut State)| outcome(change).map(|_| ()).unwrap_err();
    assert_eq!(error(|s| s.absent = true), Ps2Error::NoController);
    assert_eq!(error(|s| s.deaf = true), Ps2Error::NoController);
    assert_eq!(
        error(|s| s.self_test = Some(0xfc)),
        Ps2Error::SelfTest(0xfc)
    );
    assert_eq!(error(|s| s.self_test = None), Ps2Error::NoController);
    assert_eq!(error(|s| s.port_test = Some(1)), Ps2Error::PortTest(1));
    assert_eq!(error(|s| s.acknowledge.clear()), Ps2Error::NoKeyboard);
    assert_eq!(
        error(|s| s.acknowledge = [0xfe; 9].into()),
        Ps2Error::Keyboard(0xfe)
    );
    assert_eq!(error(|s| s.reset = Some(0xfc)), Ps2Error::Keyboard(0xfc));
    assert_eq!(error(|s| s.reset = None), Ps2Error::NoKeyboard);
}

#[test]
fn scancodes_come_by_interrupt_and_the_mouse_is_ignored() {
    let model = Model::default();
    let keyboard: &'static Keyboard = Box::leak(Box::new(Keyboard::new(model.clone()).unwrap()));
    let interrupts = TestInterrupts::default();
    keyboard.listen(&interrupts).unwrap();
    model.0.lock().unwrap().output.extend([
        (0x23, false),
        (0x1e, true),
        (0xa3, false),
        (0x17, false),
    ]);
    assert_eq!(keyboard.try_read(), None);
    interrupts.fire_isa(IRQ);
    let typed: Vec<u8> = core::iter::from_fn(|| keyboard.try_read()).collect();
    assert_eq!(typed, b"hi");
}

#[test]
fn a_flood_of_scancodes_is_cut_off() {
    let model = Model::default();
    let keyboard: &'static Keyboard = Box::leak(Box::new(Keyboard::new(model.clone()).unwrap()));
    let interrupts = TestInterrupts::default();
    keyboard.listen(&interrupts).unwrap();
    model
        .0
        .lock()
        .unwrap()
        .output
        .extend([(0x1e, false); 4 * SCANCODES]);
    for _ in 0..4 * SCANCODES / BURST {
        interrupts.fire_isa(IRQ);
    }
    assert_eq!(
        core::iter::from_fn(|| keyboard.try_read()).count(),
        SCANCODES
    );
}

fn typed(codes: &[u8]) -> String {
    let mut keys = Keys::new();
    let mut sent = Vec::new();
    for &code in codes {
        keys.scancode(code);
        sent.extend(core::iter::from_fn(|| keys.next_byte()));
    }
    String::from_utf8(sent).unwrap()
}

const SHIFT: u8 = 0x2a;
const CONTROL: u8 = 0x1d;
const UP: u8 = 0x80;

#[test]
fn letters_follow_the_modifiers() {
    assert_eq!(
        typed(&[0x1e, 0x1e | UP, SHIFT, 0x1e, 0x1e | UP, SHIFT | UP, 0x1e]),
        "aAa"
    );
    assert_eq!(typed(&[0x3a, 0x3a | UP, 0x1e, 0x02, SHIFT, 0x02]), "A1!");
    assert_eq!(
        typed(&[CONTROL, 0x2e, 0x20, CONTROL | UP, 0x2e]),
        "\x03\x04c"
    );
    assert_eq!(typed(&[0x39, 0x35, SHIFT, 0x35, 0x2b]), " /?|");
}

#[test]
fn keys_send_what_a_terminal_sends() {
    assert_eq!(typed(&[0x1c]), "\r");
    assert_eq!(typed(&[0xe0, 0x1c]), "\r");
    assert_eq!(typed(&[0x0e]), "\x7f");
    assert_eq!(typed(&[0x0f]), "\t");
    assert_eq!(typed(&[0x01]), "\x1b");
    assert_eq!(typed(&[0xe0, 0x48, 0xe0, 0xc8]), "\x1b[A");
    assert_eq!(
        typed(&[0xe0, 0x50, 0xe0, 0x4d, 0xe0, 0x4b]),
        "\x1b[B\x1b[C\x1b[D"
    );
    assert_eq!(typed(&[0xe0, 0x47, 0xe0, 0x4f]), "\x1b[H\x1b[F");
    assert_eq!(
        typed(&[0xe0, 0x52, 0xe0, 0x53, 0xe0, 0x49, 0xe0, 0x51]),
        "\x1b[2~\x1b[3~\x1b[5~\x1b[6~"
    );
}

#[test]
fn the_number_pad_follows_num_lock() {
    assert_eq!(typed(&[0x47, 0x4c, 0x53]), "75.");
    assert_eq!(
        typed(&[0x45, 0x45 | UP, 0x48, 0x47, 0x53]),
        "\x1b[A\x1b[H\x1b[3~"
    );
}

#[test]
fn nonsense_sends_nothing() {
    assert_eq!(typed(&[0x55, 0xff, 0x00, 0xe0, 0xff, 0x3b, 0x1e]), "a");
}
