//! Prints how many instruction words a second one emulated core executes.
//!
//! `cargo run --release -p onebit-aie-emu --example core_speed [PART]`: of programs whose name has
//! this part in it.

use std::time::Instant;

use onebit_aie::isa::assemble;
use onebit_aie_emu::Fault;
use onebit_aie_emu::bus::Bus;
use onebit_aie_emu::core::{Core, LatencyModel, Status};

/// A memory of a tile and no locks.
struct Tile(Vec<u8>);

impl Bus for Tile {
    fn load(&mut self, address: u32, bytes: &mut [u8]) -> Result<(), Fault> {
        let start = (address & 0xffff) as usize;
        let source = self.0.get(start..start + bytes.len());
        bytes.copy_from_slice(source.ok_or(Fault::NoSuchAddress { address })?);
        Ok(())
    }

    fn store(&mut self, address: u32, bytes: &[u8]) -> Result<(), Fault> {
        let start = (address & 0xffff) as usize;
        let target = self.0.get_mut(start..start + bytes.len());
        target.ok_or(Fault::NoSuchAddress { address })?.copy_from_slice(bytes);
        Ok(())
    }

    fn acquire(&mut self, _: u32, _: i32) -> Result<bool, Fault> {
        Ok(true)
    }

    fn release(&mut self, _: u32, _: i32) -> Result<(), Fault> {
        Ok(())
    }
}

const SETUP: &str = "movxm p0, #458752\nmovxm p1, #459776\nmovx r0, #0\nmovx r1, #1\nmovx r3, #776\nmovxm m0, #0\n\
                     vclr dm0\nvclr dm1\nvclr dm2\nvclr dm3\nvbcst.8 x0, r1\nvbcst.8 x1, r1\nvbcst.8 x2, r1\nvbcst.8 x3, r1\n";

const BODIES: [(&str, &str); 5] = [
    ("words without operations", "nop\nnop\nnop\nnop"),
    ("sums of scalars", "add r0, r0, r1\nadd r0, r0, r1\nadd r0, r0, r1\nadd r0, r0, r1"),
    (
        "scalar loads and stores",
        "lda r4, [p0, #0]\nst r0, [p0, #4]\nlda r5, [p0, #8]\nst r0, [p0, #12]",
    ),
    (
        "products",
        "vmac dm0, dm0, x0, x1, r3\nvmac dm1, dm1, x0, x1, r3\nvmac dm2, dm2, x0, x1, r3\nvmac dm3, dm3, x0, x1, r3",
    ),
    (
        "products with two loads each",
        "vlda x0, [p0], m0; vldb x1, [p1], m0; vmac dm0, dm0, x0, x1, r3\n\
         vlda x2, [p0], m0; vldb x3, [p1], m0; vmac dm1, dm1, x0, x1, r3\n\
         vlda x0, [p0], m0; vldb x1, [p1], m0; vmac dm2, dm2, x2, x3, r3\n\
         vlda x2, [p0], m0; vldb x3, [p1], m0; vmac dm3, dm3, x2, x3, r3",
    ),
];

fn main() {
    let part = std::env::args().nth(1).unwrap_or_default();
    for (name, body) in BODIES.into_iter().filter(|(name, _)| name.contains(&part)) {
        let text = format!(
            "{SETUP}{}again:\n{}j #@again\n{}",
            "nop\n".repeat(8),
            format!("{body}\n").repeat(16),
            "nop\n".repeat(5)
        );
        let code = assemble(&text, 0).expect("a program");
        let mut rates = [0.0f64; 2];
        let documented = LatencyModel::documented();
        let cores = [Core::new(&documented), Core::checked(&documented, &documented)];
        for (mut core, rate) in cores.into_iter().zip(&mut rates) {
            core.write_program(0, &code).expect("fits");
            core.enable();
            let mut tile = Tile(vec![1; 0x10000]);
            let start = Instant::now();
            while start.elapsed().as_millis() < 500 {
                for _ in 0..100_000 {
                    let status = core.step(&mut tile).expect("runs");
                    assert_eq!(status, Status::Ran);
                }
            }
            *rate = core.words() as f64 / start.elapsed().as_secs_f64() / 1e6;
        }
        println!("{:>7.1} M/s, checked {:>7.1} M/s: {name}", rates[0], rates[1]);
    }
}
