//! Files: `files FILE` reads it in several ways, which must agree, and asks for what cannot be had.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use libc::{MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE};
use programs::{Checksum, Mapping, PAGE, Random, in_child};

fn main() -> std::io::Result<()> {
    let path = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "/etc/passwd".to_owned());
    let mut file = File::open(&path)?;
    let len = file.metadata()?.len() as usize;
    println!("{len} bytes, a file: {}", file.metadata()?.is_file());

    let mut whole = Vec::new();
    file.read_to_end(&mut whole)?;
    println!("read: {:016x}", Checksum::default().extend(&whole).0);
    println!("at the end: {} bytes", file.read(&mut [0; 10])?);

    file.seek(SeekFrom::Start(0))?;
    let mut odd = Vec::new();
    let mut piece = [0; 1237];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            n => odd.extend_from_slice(&piece[..n]),
        }
    }
    println!("in odd pieces, the same: {}", odd == whole);
    println!("position {}", file.stream_position()?);

    let mut random = Random::new(3);
    let agree = (0..200).all(|_| {
        let at = random.below(len as u64 + 1) as usize;
        let mut piece = [0; 5000];
        let n = file.read_at(&mut piece, at as u64).unwrap_or(usize::MAX);
        n == piece.len().min(len - at) && piece[..n] == whole[at..at + n]
    });
    println!("at random places, the same: {agree}");

    let mapped = Mapping::file(&file, len.max(1), PROT_READ, MAP_SHARED);
    println!(
        "mapped, the same: {}",
        (0..len).all(|at| mapped.read(at) == whole[at])
    );

    let rounded = len.max(1).next_multiple_of(PAGE);
    let private = Mapping::file(&file, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    println!(
        "zeroes after the end: {}",
        (len..rounded).all(|at| private.read(at) == 0)
    );
    (0..rounded)
        .step_by(PAGE)
        .for_each(|at| private.write(at, !private.read(at)));
    println!(
        "a private change stays private: {}",
        (0..len).all(|at| mapped.read(at) == whole[at])
    );

    let beyond = Mapping::file(&file, rounded + PAGE, PROT_READ, MAP_PRIVATE);
    println!(
        "beyond the last page: {}",
        in_child(|| beyond.read(rounded).into())
    );
    drop(file);
    println!(
        "mapped after close, the same: {}",
        (0..len).step_by(97).all(|at| mapped.read(at) == whole[at])
    );

    let error = |result: std::io::Result<File>| result.err().and_then(|error| error.raw_os_error());
    println!("no such file: {:?}", error(File::open("/no/such/file")));
    println!(
        "a file is no directory: {:?}",
        error(File::open(format!("{path}/x")))
    );
    println!(
        "a directory is no file: {:?}",
        File::open("/")
            .and_then(|mut dir| dir.read(&mut [0; 8]))
            .err()
            .map(|e| e.raw_os_error())
    );
    // SAFETY: the descriptor is not open; the buffer is never reached.
    let read = unsafe { libc::read(999, [0_u8; 8].as_mut_ptr().cast(), 8) };
    println!(
        "no such descriptor: {read} {:?}",
        std::io::Error::last_os_error().raw_os_error()
    );
    let file = File::open(&path)?;
    // SAFETY: the kernel must refuse the address.
    let read = unsafe { libc::read(file.as_raw_fd(), std::ptr::without_provenance_mut(16), 8) };
    println!(
        "into nowhere: {read} {:?}",
        std::io::Error::last_os_error().raw_os_error()
    );
    let zero = Mapping::file(
        &File::open("/dev/zero")?,
        PAGE,
        PROT_READ | PROT_WRITE,
        MAP_PRIVATE,
    );
    println!(
        "/dev/zero mapped is zero: {}",
        (0..PAGE).all(|at| zero.read(at) == 0)
    );
    println!(
        "/dev/null has {} bytes",
        File::open("/dev/null")?.read(&mut [0; 8])?
    );
    Ok(())
}
