//! Our files before AMD's own parsers: Debian's `bootgen` (package `xilinx-bootgen`) and XRT's
//! `xrt::xclbin` (packages `libxrt-dev` and `uuid-dev`, with g++).
//!
//! Where a tool is missing the test says `skipped` and why: it has then shown nothing.

mod common;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use onebit_aie::cdo::Cdo;
use onebit_aie::gemm::Design;
use onebit_aie::pdi::Pdi;
use onebit_aie::program::{RegisterMap, RegisterOp};
use onebit_aie::xclbin::Xclbin;

use common::{program, xclbin};

/// Says that nothing was shown, past the capturing of the test's output.
fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// Runs `command`; None, after saying so, when there is no such program.
fn run(command: &mut Command) -> Option<Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(error) => {
            skipped(&format!("{}: {error}", command.get_program().display()));
            None
        }
    }
}

fn text(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{out}{err}")
}

/// The small design with every kind of write, and the one of real use.
fn designs() -> [Xclbin; 2] {
    [xclbin(), Design::new().unwrap().xclbin().unwrap()]
}

fn bootgen(image: &Path) -> Option<Output> {
    run(Command::new("bootgen").args(["-arch", "versal", "-read"]).arg(image))
}

#[test]
fn bootgen_reads_our_pdi() {
    designs().iter().for_each(bootgen_reads);
}

fn bootgen_reads(design: &Xclbin) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("design.pdi");
    let bytes = design.partition.pdi.to_bytes().unwrap();
    fs::write(&path, &bytes).unwrap();
    let Some(output) = bootgen(&path) else { return };
    let listing = text(&output);
    assert!(output.status.success(), "{listing}");
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    for expected in [
        "IMAGE HEADER (aie_image)".to_owned(),
        "PARTITION HEADER TABLE (aie_image.0)".to_owned(),
        "id_code (0x18) : 0x14ca8093".to_owned(),
        "id_string (0x28) : PPDI".to_owned(),
        "extended_id_code (0x44) : 0x00000001".to_owned(),
        "id (0x18) : 0x1c000000".to_owned(),
        "partition_type[cdo]".to_owned(),
        format!("unencrypted_length (0x04) : {:#010x}", word(0xd4)),
        format!("checksum (0x7c) : {:#010x}", word(0x14c)),
        format!("checksum (0x3c) : {:#010x}", word(0xcc)),
    ] {
        assert!(listing.contains(&expected), "no {expected:?} in:\n{listing}");
    }
    assert!(!listing.contains("ERROR"), "{listing}");

    // That a good image is read means something only if a bad one is not.
    let mut broken = bytes;
    broken[0x10] ^= 1;
    fs::write(&path, &broken).unwrap();
    let listing = text(&bootgen(&path).expect("it ran before"));
    assert!(listing.contains("ERROR") || !listing.contains("(aie_image)"), "{listing}");
}

/// bootgen reads the commands of a CDO and writes them anew: it makes one word of a block of one
/// word, and puts a NOP where data would not be aligned. A CDO that needs neither comes back as
/// the image that we make of it.
#[test]
fn bootgen_makes_the_same_image_of_our_cdo() {
    let mut program = program();
    let one_word =
        |op: &RegisterOp| matches!(op, RegisterOp::BlockWrite { data, .. } if data.len() == 1);
    for is_plain in [false, true] {
        program.ops.retain(|op| !(is_plain && one_word(op)));
        let design = Pdi::new(Cdo::from_program(&program));
        let Some(theirs) = bootgen_image(&design.cdo) else { return };
        let [mut left, mut right] = [(); 2].map(|()| RegisterMap::default());
        left.apply(&Pdi::parse(&theirs).unwrap().cdo.program());
        right.apply(&program);
        assert_eq!(left, right);
        assert_eq!(theirs == design.to_bytes().unwrap(), is_plain);
    }
}

/// The matrix design has no block of one word, so its image is ours byte for byte.
#[test]
fn bootgen_makes_the_same_image_of_the_matrix_design() {
    let design = Pdi::new(Cdo::from_program(Design::new().unwrap().configuration()));
    let Some(theirs) = bootgen_image(&design.cdo) else { return };
    assert!(theirs == design.to_bytes().unwrap());
}

/// The image that bootgen makes of `cdo`.
fn bootgen_image(cdo: &Cdo) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("design.cdo"), cdo.to_bytes().unwrap()).unwrap();
    let image = "id_code=0x14ca8093 extended_id_code=0x01 image { name=aie_image, id=0x1c000000 \
                 { type=cdo file=design.cdo } }";
    fs::write(folder.path().join("design.bif"), format!("all: {{ {image} }}")).unwrap();
    let mut bootgen = Command::new("bootgen");
    bootgen.args(["-arch", "versal", "-image", "design.bif", "-w", "-o", "design.pdi"]);
    let output = run(bootgen.current_dir(folder.path()))?;
    assert!(output.status.success(), "{}", text(&output));
    Some(fs::read(folder.path().join("design.pdi")).unwrap())
}

/// Compiles the reader in `xclbin_info.cpp`; None, after saying so, when XRT is not there.
fn xclbin_reader(folder: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/xclbin_info.cpp");
    let program = folder.join("xclbin_info");
    let mut compile = Command::new("g++");
    compile.args(["-std=c++17", "-I/usr/include/xrt", "-o"]).arg(&program).arg(source);
    let output = run(compile.args(["-lxrt_coreutil", "-luuid"]))?;
    if !output.status.success() {
        let said = text(&output);
        let first = said.lines().find(|line| line.contains("error")).unwrap_or("no message");
        skipped(&format!("XRT's headers and libraries do not compile here: {first}"));
        return None;
    }
    Some(program)
}

#[test]
fn xrt_reads_our_xclbin() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = xclbin_reader(folder.path()) else { return };
    for design in designs() {
        xrt_reads(&program, &folder.path().join("design.xclbin"), &design);
    }
}

fn xrt_reads(program: &Path, path: &Path, design: &Xclbin) {
    let bytes = design.to_bytes().unwrap();
    fs::write(path, &bytes).unwrap();
    let read = |path: &Path| {
        let output = Command::new(program).env("XILINX_XRT", "/usr").arg(path).output();
        output.expect("a program that was just compiled")
    };
    let output = read(path);
    let listing = text(&output);
    assert!(output.status.success(), "{listing}");
    let hex: String = design.uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    let uuid = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
    for expected in [
        format!("uuid {uuid}"),
        "kernel MLIR_AIE".to_owned(),
        "unit MLIR_AIE:MLIRAIE".to_owned(),
        "arg opcode 0 8".to_owned(),
        "arg instr 8 8".to_owned(),
        "arg ninstr 16 4".to_owned(),
        "arg bo0 20 8".to_owned(),
        "arg bo4 52 8".to_owned(),
        "memory HOST 67108864 65536".to_owned(),
        "memory SRAM 67108864 49152".to_owned(),
    ] {
        assert!(listing.contains(&expected), "no {expected:?} in:\n{listing}");
    }

    for (what, bad) in [("truncated", bytes[..bytes.len() / 2].to_vec()), ("garbage", vec![7; 600])]
    {
        fs::write(path, bad).unwrap();
        assert!(!read(path).status.success(), "XRT reads a {what} file");
    }
}
