//! Loans of all kinds, taken, broken and given back at random; every byte is compared with what it must be.

use super::*;

/// Pages of each kind in [`anything_goes`].
const MANY: u64 = 6;

/// One process of it: private bytes, and which pages of the file it has written.
struct Process {
    program: Program,
    private: [u8; MANY as usize],
    copied: [Option<u8>; MANY as usize],
}

#[test]
fn anything_goes() {
    for seed in 0..24 {
        let torture_evict = seed % 3 == 0;
        let config = HostConfig {
            frames: 512,
            torture_evict,
            ..HostConfig::default()
        };
        let world = World::with(&config, seed);
        let (_disk, file, files) = file(&world, Mode::After(Duration::from_micros(20)), MANY);
        let object = UvmObject::anonymous(&world.uvm, Pages(MANY as usize)).unwrap();
        let new = {
            let (uvm, machine) = (world.uvm.clone(), world.program(&world.space()));
            let (object, files) = (object.clone(), files.clone());
            move || {
                let space = VmSpace::new(&uvm).unwrap();
                map_private(&space, AT, MANY as usize);
                map_shared(&space, &object, MANY as usize);
                map_file(&space, files.object(), MANY as usize);
                Process {
                    program: machine.in_space(&space),
                    private: [0; MANY as usize],
                    copied: [None; MANY as usize],
                }
            }
        };
        let uvm = world.uvm.clone();
        world.run(async move {
            let mut random = Random::new(seed);
            let mut shared = [0; MANY as usize];
            let mut processes: Vec<Process> = (0..3).map(|_| new()).collect();
            let mut loans: Vec<(KernelLoan, u8)> = Vec::new();
            for step in 0..600 {
                let who = random.below(3) as usize;
                let (page, kind) = (random.below(MANY), random.below(3) as usize);
                let i = page as usize;
                let va = [AT, SHARED, FILE][kind] + page * PAGE;
                let process = &mut processes[who];
                let byte = match kind {
                    0 => process.private[i],
                    1 => shared[i],
                    _ => process.copied[i].unwrap_or(file.byte(page * PAGE)),
                };
                match random.below(20) {
                    0..6 => {
                        let new = random.draw() as u8;
                        process.program.store(va, new).await.unwrap();
                        match kind {
                            0 => process.private[i] = new,
                            1 => shared[i] = new,
                            _ => process.copied[i] = Some(new),
                        }
                    }
                    6..11 => assert_eq!(
                        process.program.load(va).await,
                        Ok(byte),
                        "seed {seed} step {step}"
                    ),
                    11..14 => {
                        let loan = process.program.space().loan(range(va, 1)).await.unwrap();
                        loans.push((loan, byte));
                    }
                    14..16 if !loans.is_empty() => {
                        let (loan, byte) =
                            loans.swap_remove(random.below(loans.len() as u64) as usize);
                        assert_eq!(first_byte(&loan, 0), byte, "seed {seed} step {step}");
                    }
                    16..19 => {
                        let (to, slot) = (random.below(3) as usize, random.below(MANY));
                        let at = VirtAddr::new(AT + slot * PAGE);
                        let (from, to_space) = (
                            processes[who].program.space(),
                            processes[to].program.space(),
                        );
                        from.loan_to(range(va, 1), to_space, at).await.unwrap();
                        processes[to].private[slot as usize] = byte;
                    }
                    _ => {
                        end(&process.program).await;
                        *process = new();
                    }
                }
                if step % 20 == 0 {
                    let checked = uvm.check();
                    assert!(
                        checked.is_ok(),
                        "seed {seed} step {step}: {}",
                        checked.unwrap_err()
                    );
                }
            }
            assert!(breaks(&uvm) > 20, "{}", breaks(&uvm));
            for (loan, byte) in loans {
                assert_eq!(first_byte(&loan, 0), byte);
            }
            for process in &processes {
                end(&process.program).await;
            }
        });
        drop((object, files));
        world.run(async {});
        let report = world.check_quiet();
        assert_eq!(
            (report.anon, report.object),
            (0, 0),
            "seed {seed}: {report}"
        );
    }
}
