//! The host's terminal while auvm owns it.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::Result;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// Standard input and output as they were before, given back when this is dropped: also when the launcher
/// panics, and also when QEMU was killed and could not clean up after itself.
///
/// While it lives, no key makes a signal and nothing is echoed: all keys are the guest's.
pub struct RawTerminal {
    modes: Termios,
    flags: [OFlag; 2],
}

impl RawTerminal {
    /// Takes the terminal on standard input.
    ///
    /// # Errors
    /// Standard input is no terminal.
    pub fn take() -> Result<RawTerminal> {
        let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
        let modes = tcgetattr(&stdin)?;
        // QEMU makes both ends non-blocking, and they share their state with the shell that started us.
        let flags = [flags(stdin.as_fd())?, flags(stdout.as_fd())?];
        let mut raw = modes.clone();
        cfmakeraw(&mut raw);
        // Our own lines still begin at the left.
        raw.output_flags = modes.output_flags;
        tcsetattr(&stdin, SetArg::TCSANOW, &raw)?;
        Ok(RawTerminal { modes, flags })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
        // The terminal may be gone (hang-up): then nothing is left to restore.
        let _ = tcsetattr(&stdin, SetArg::TCSADRAIN, &self.modes);
        let _ = fcntl(&stdin, FcntlArg::F_SETFL(self.flags[0]));
        let _ = fcntl(&stdout, FcntlArg::F_SETFL(self.flags[1]));
    }
}

fn flags(file: BorrowedFd) -> Result<OFlag> {
    Ok(OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?))
}
