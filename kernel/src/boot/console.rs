//! The console's devices: the serial line always, screen and keyboard where there is a graphics card.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use drivers::Dma;
use drivers::io::Ports;
use drivers::pci::Function;
use drivers::ps2::{self, Keyboard};
use drivers::serial::{self, Serial};
use drivers::vga;
use executor::sync::SpinLock;
use executor::{Class, Executor};

use crate::arch::devices::Hardware;
use crate::console::{Audience, Console, Screen};

/// PCI's base class of graphics cards.
const DISPLAY: u8 = 0x03;

struct SerialScreen(&'static Serial);

impl Screen for SerialScreen {
    fn show(&self, bytes: &[u8]) {
        self.0.write(bytes);
    }
}

struct TextScreen(SpinLock<vga::Text<Ports>>);

impl Screen for TextScreen {
    fn show(&self, bytes: &[u8]) {
        self.0.lock().write(bytes);
    }
}

/// The devices that were found. Input is not read yet.
pub struct Devices {
    serial: Option<&'static Serial>,
    keyboard: Option<&'static Keyboard>,
    screens: Vec<Arc<dyn Screen>>,
}

impl Devices {
    /// Looks for the devices and turns them on.
    pub fn find(functions: &[Function], hardware: &'static Hardware) -> Devices {
        let mut screens: Vec<Arc<dyn Screen>> = Vec::new();
        // SAFETY: COM1's ports; besides this driver only a panic writes there.
        let serial = logged(Serial::new(unsafe { Ports::new(serial::COM1) }));
        let serial = serial.map(|serial| &*Box::leak(Box::new(serial)));
        if let Some(serial) = serial {
            logged(serial.listen(serial::COM1_IRQ, hardware));
            screens.push(Arc::new(SerialScreen(serial)));
        }
        let has_display = functions.iter().any(|function| function.class == DISPLAY);
        let mut keyboard = None;
        if has_display {
            let buffer = hardware.map_mmio(vga::TEXT_BUFFER, vga::TEXT_BUFFER_LEN);
            // SAFETY: the card's text buffer, mapped for good for this driver alone, and its ports.
            let screen = unsafe { vga::Text::new(buffer, Ports::new(vga::CRTC_PORTS)) };
            screens.push(Arc::new(TextScreen(SpinLock::new(screen))));
            // SAFETY: the keyboard controller's ports, used by this driver alone.
            keyboard = logged(Keyboard::new(unsafe { Ports::new(ps2::PORTS) }))
                .map(|keyboard| &*Box::leak(Box::new(keyboard)));
            if let Some(keyboard) = keyboard {
                logged(keyboard.listen(hardware));
            }
        }
        Devices {
            serial,
            keyboard,
            screens,
        }
    }

    /// One console of all devices, with a task for each that types into it.
    pub fn console(self, audience: Audience, executor: &Arc<Executor>) -> Arc<Console> {
        let console = Console::new(self.screens, audience, executor);
        // Where a person sits, a machine in which everything waits is not dead: there is Ctrl-C.
        let outside = || (audience == Audience::Person).then(|| executor.outside());
        if let Some(serial) = self.serial {
            let tty = console.tty().clone();
            let outside = outside();
            executor.spawn(Class::Daemon, "serial input", async move {
                let _outside = outside;
                loop {
                    tty.input(&[serial.read_byte().await]);
                }
            });
        }
        if let Some(keyboard) = self.keyboard {
            let tty = console.tty().clone();
            let outside = outside();
            executor.spawn(Class::Daemon, "keyboard", async move {
                let _outside = outside;
                loop {
                    tty.input(&[keyboard.read_byte().await]);
                }
            });
        }
        console
    }
}

fn logged<T, E: core::fmt::Display>(result: Result<T, E>) -> Option<T> {
    result
        .inspect_err(|error| log::error!("console: {error}"))
        .ok()
}
