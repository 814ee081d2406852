//! From scancodes (set 1) to the bytes that a terminal sends.
//!
//! `pc-keyboard` knows the keys, the modifiers and the US layout. Here they become what programs on a serial line are
//! used to: Return sends `\r`, Backspace DEL, keys without a character ANSI's sequences, Ctrl with a letter its control
//! character.

use arrayvec::ArrayVec;
use pc_keyboard::layouts::Us104Key;
use pc_keyboard::{
    DecodedKey, EventDecoder, HandleControl, KeyCode, KeyState, ScancodeSet, ScancodeSet1,
};

/// The longest sequence that a key sends.
const LONGEST: usize = 4;

/// The state of the keyboard, and what its last key has yet to send.
pub(super) struct Keys {
    scancodes: ScancodeSet1,
    decoder: EventDecoder<Us104Key>,
    /// In reverse: the next byte is the last.
    rest: ArrayVec<u8, LONGEST>,
}

impl Keys {
    pub(super) fn new() -> Keys {
        Keys {
            scancodes: ScancodeSet1::new(),
            decoder: EventDecoder::new(Us104Key, HandleControl::MapLettersToUnicode),
            rest: ArrayVec::new(),
        }
    }

    /// Takes one scancode. What the key sends comes from [`Keys::next_byte`], before the next scancode.
    pub(super) fn scancode(&mut self, code: u8) {
        // An unknown code is a key that sends nothing.
        let Ok(Some(event)) = self.scancodes.advance_state(code) else {
            return;
        };
        let (key, pressed) = (event.code, event.state == KeyState::Down);
        let decoded = self.decoder.process_keyevent(event);
        if !pressed {
            return;
        }
        if let Some(sequence) = sequence(key) {
            self.send(sequence);
        } else if let Some(DecodedKey::Unicode(character)) = decoded {
            let mut utf8 = [0; LONGEST];
            self.send(character.encode_utf8(&mut utf8).as_bytes());
        } else if let Some(DecodedKey::RawKey(key)) = decoded
            // The number pad without Num Lock: the layout made it the key printed on it.
            && let Some(sequence) = sequence(key)
        {
            self.send(sequence);
        }
    }

    pub(super) fn next_byte(&mut self) -> Option<u8> {
        self.rest.pop()
    }

    fn send(&mut self, sequence: &[u8]) {
        self.rest = sequence.iter().rev().copied().collect();
    }
}

/// What a key sends whatever the modifiers.
fn sequence(key: KeyCode) -> Option<&'static [u8]> {
    Some(match key {
        KeyCode::Return | KeyCode::NumpadEnter => b"\r",
        KeyCode::Backspace => b"\x7f",
        KeyCode::ArrowUp => b"\x1b[A",
        KeyCode::ArrowDown => b"\x1b[B",
        KeyCode::ArrowRight => b"\x1b[C",
        KeyCode::ArrowLeft => b"\x1b[D",
        KeyCode::Home => b"\x1b[H",
        KeyCode::End => b"\x1b[F",
        KeyCode::Insert => b"\x1b[2~",
        KeyCode::Delete => b"\x1b[3~",
        KeyCode::PageUp => b"\x1b[5~",
        KeyCode::PageDown => b"\x1b[6~",
        _ => return None,
    })
}
