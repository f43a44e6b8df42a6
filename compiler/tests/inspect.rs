//! `onebitc inspect`: JSON names, graphs, listings.

mod common;

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use onebit_plan::PlanFile;
use onebit_plan::manifest::SegmentKind;
use onebit_test_support::TinyOptions;
use onebitc::Options;
use onebitc::inspect::{dot, json, listing};
use onebitc::schedule::repack::Placement;
use serde_json::Value;

use common::{model, onebitc, plan, printed, rewritten, small};

/// A plan for processor and graphics processor, and one for a neural processor.
fn plans(folder: &std::path::Path) -> [PlanFile; 2] {
    let gguf = model(folder, "m", "llama", &TinyOptions::default());
    let npu = Options { placement: Placement::Array, ..small() };
    [("gpu", small()), ("npu", npu)]
        .map(|(name, options)| PlanFile::open(plan(folder, name, &gguf, &options)).unwrap())
}

/// Every name in the JSON is documented, and every documented name is there: a name that changes
/// by accident is found, whether or not somebody changes the document, too.
#[test]
fn json_has_the_documented_names() {
    let folder = tempfile::tempdir().unwrap();
    let mut found = BTreeSet::new();
    for plan in plans(folder.path()) {
        names(&json::plan(&plan).unwrap(), String::new(), &mut found);
    }
    let document = include_str!("../../docs/inspect-json.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let documented: BTreeSet<String> = rows.map(|(name, _)| name.to_owned()).collect();
    // Tiny plans are not signed and read no box.
    let elsewhere = ["signature.key"].map(str::to_owned);
    let missing: Vec<&String> = found.difference(&documented).collect();
    assert!(missing.is_empty(), "not in docs/inspect-json.md: {missing:#?}");
    let gone: Vec<&String> =
        documented.difference(&found).filter(|name| !elsewhere.contains(name)).collect();
    assert!(gone.is_empty(), "in docs/inspect-json.md only: {gone:#?}");
}

#[test]
fn json_says_what_the_manifest_says() {
    let folder = tempfile::tempdir().unwrap();
    for plan in plans(folder.path()) {
        let output = printed(&onebitc(&[&"inspect", &plan.path(), &"--json"]));
        let value: Value = serde_json::from_str(&output).unwrap();
        let (manifest, said) = (plan.manifest(), &value["manifest"]);
        assert_eq!(value["schema"], json::SCHEMA);
        assert_eq!(value["file"]["bytes"], plan.file_length());
        let hash = blake3::Hash::from_bytes(manifest.provenance.source_hash).to_hex();
        assert_eq!(said["provenance"]["source_hash"], hash.as_str());
        let names: Vec<&str> = manifest.regions.iter().map(|it| it.name.as_str()).collect();
        let listed = said["regions"].as_array().unwrap().iter();
        assert_eq!(listed.map(|it| it["name"].as_str().unwrap()).collect::<Vec<_>>(), names);
        let unique: BTreeSet<&&str> = names.iter().collect();
        assert_eq!(unique.len(), names.len(), "two regions have one name: {names:?}");
        for segment in said["segments"].as_array().unwrap() {
            assert_eq!(segment["hash"].as_str().map(str::len), Some(64));
        }
    }
}

/// Edges lead from what makes a value to what reads it: each region but the roots reads one, and
/// all of them lead to the logits.
#[test]
fn regions_are_one_graph() {
    let folder = tempfile::tempdir().unwrap();
    for plan in plans(folder.path()) {
        let regions = &plan.manifest().regions;
        let mut reached = BTreeSet::from([regions.len() - 1]);
        for (index, region) in regions.iter().enumerate().rev() {
            assert!(reached.contains(&index), "nothing reads {}", region.name);
            reached.extend(region.reads.iter().map(|&from| from as usize));
            let root = ["embed", "rope_table"].contains(&region.ops[0].as_str());
            assert_eq!(region.reads.is_empty(), root, "{}", region.name);
        }
        for entry in &plan.manifest().entries {
            let coded: BTreeSet<u32> = entry.ranges.iter().map(|range| range.region).collect();
            assert_eq!(coded.len(), regions.len(), "a region without code");
            for (index, a) in entry.buffers.iter().enumerate() {
                for b in &entry.buffers[..index] {
                    let together = a.first <= b.last && b.first <= a.last;
                    let apart = a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset;
                    assert!(a.scope != b.scope || !together || apart, "{a:?} and {b:?}");
                }
            }
        }
    }
}

/// Every region but rotation tables, which the runtime fills, is in a dispatch of each GPU entry.
#[test]
fn dispatches_do_all_regions() {
    let folder = tempfile::tempdir().unwrap();
    let [plan, _] = plans(folder.path());
    let manifest = plan.manifest();
    for entry in &manifest.gpu.as_ref().unwrap().entries {
        let done: BTreeSet<u32> =
            entry.dispatches.iter().flat_map(|dispatch| dispatch.regions.clone()).collect();
        for (index, region) in (0..).zip(&manifest.regions) {
            let table = region.ops == ["rope_table"];
            assert_eq!(done.contains(&index), !table, "{} in {}", region.name, entry.name);
        }
    }
}

#[test]
fn graphs_are_graphviz() {
    let folder = tempfile::tempdir().unwrap();
    let [plan, _] = plans(folder.path());
    let hostile = folder.path().join("hostile.plan");
    rewritten(plan.path(), &hostile, |manifest| {
        manifest.regions[0].name = "\"]; } \\\" <b>\n\r\u{0}\\".into();
        manifest.regions[1].target = "\\".into();
        manifest.regions[2].name = "@blk.7.\"".into();
    });
    for path in [plan.path(), &hostile] {
        let plan = PlanFile::open(path).unwrap();
        let text = dot::graph(plan.manifest());
        let (nodes, edges) = parse_dot(&text);
        let reads: usize = plan.manifest().regions.iter().map(|region| region.reads.len()).sum();
        assert_eq!((nodes, edges), (plan.manifest().regions.len(), reads));
        graphviz(&text);
    }
}

/// A listing of what each device is given, with names in the place of addresses.
#[test]
fn listings_name_what_they_call() {
    let folder = tempfile::tempdir().unwrap();
    let [gpu, npu] = plans(folder.path());
    let text = |plan: &PlanFile, names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        listing::listing(plan, &listing::regions(plan.manifest(), &names).unwrap())
    };
    let shaders = text(&gpu, &["@blk.1.attn_output"]);
    assert!(shaders.contains("OpEntryPoint GLCompute"), "{shaders}");
    if cfg!(target_arch = "x86_64") {
        for part in ["region @blk.1.attn_output", "; call matmul.Q4D", "blk.1.attn_output.weight"] {
            assert!(shaders.contains(part), "{part} is missing in\n{shaders}");
        }
        assert!(!shaders.contains("region @blk.0"), "{shaders}");
        let norm = text(&gpu, &["blk.1.ffn_norm"]);
        assert!(norm.contains("; call function @"), "{norm}");
        assert!(norm.contains("\nfunction @"), "{norm}");
        assert!(text(&npu, &["blk.0.attn_q"]).contains("; call array"));
        // Everything that a region's code calls has a name.
        let all = text(&gpu, &["all"]);
        let calls = all.lines().filter(|line| line.contains(": call r"));
        let unnamed: Vec<&str> = calls.filter(|line| !line.contains("; call ")).collect();
        assert!(unnamed.is_empty(), "{unnamed:?}");
    }
    let array = text(&npu, &["blk.0.attn_q"]);
    for part in ["array call 0", "address ", "sync ", "core program of tiles (0,2)"] {
        assert!(array.contains(part), "{part} is missing in\n{array}");
    }
    let names = ["blk.1.attn_".to_owned()];
    let error = listing::regions(gpu.manifest(), &names).unwrap_err().to_string();
    assert!(error.contains("no region @blk.1.attn_") && error.contains("@blk.1.attn_q"), "{error}");
}

/// The predicted work of an array is told of the regions that do it, the tied output's too.
#[test]
fn products_of_an_array_are_of_their_regions() {
    let folder = tempfile::tempdir().unwrap();
    let [_, npu] = plans(folder.path());
    let value = json::plan(&npu).unwrap();
    let work = value["predicted"]["array"]["work"].as_array().unwrap();
    let manifest = npu.manifest();
    let products = &manifest.array.as_ref().unwrap().products;
    assert_eq!(work.len(), products.len());
    for (work, product) in work.iter().zip(products) {
        let tensor = product.tensors[0].trim_end_matches(".weight");
        let expected = if tensor == "token_embd" { "logits" } else { tensor };
        assert_eq!(work["region"], format!("@{expected}"));
    }
    let told: BTreeSet<&str> = work.iter().map(|it| it["region"].as_str().unwrap()).collect();
    let on_array = manifest.regions.iter().filter(|region| region.target == "npu");
    assert_eq!(told, on_array.map(|region| region.name.as_str()).collect());
}

#[test]
fn code_without_a_disassembler_is_words() {
    let folder = tempfile::tempdir().unwrap();
    let gguf = model(folder.path(), "m", "llama", &TinyOptions::default());
    let options = Options { architecture: "aarch64".into(), ..small() };
    let plan = PlanFile::open(plan(folder.path(), "arm", &gguf, &options)).unwrap();
    let text = listing::listing(&plan, &[0]);
    assert!(text.starts_with("; no disassembler for this architecture"), "{text}");
    let code = plan.segment(SegmentKind::CpuCode);
    let entry = &plan.manifest().entries[0];
    let range = entry.ranges.iter().find(|range| range.region == 0).unwrap();
    let at = entry.offset as usize + range.start as usize;
    let word = u32::from_le_bytes(code[at..at + 4].try_into().unwrap());
    assert!(text.contains(&format!("{at:08x}: {word:08x}\n")), "{text}");
}

fn names(value: &Value, place: String, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let dot = if place.is_empty() { "" } else { "." };
                names(field, format!("{place}{dot}{name}"), found);
            }
        }
        Value::Array(items) => items.iter().for_each(|it| names(it, format!("{place}[]"), found)),
        Value::Null => {}
        _ => drop(found.insert(place)),
    }
}

/// Reads a graph strictly, and counts nodes and edges.
fn parse_dot(text: &str) -> (usize, usize) {
    let (mut nodes, mut edges, mut depth) = (0, 0, 0_i32);
    for line in text.lines() {
        let line = line.trim();
        let bare = without_strings(line);
        match bare.as_str() {
            "digraph plan {" => depth += 1,
            line if line.starts_with("subgraph cluster_") && line.ends_with(" {") => depth += 1,
            "}" => depth -= 1,
            "rankdir=TB;" | "node [shape=box, style=filled, fontname=];" | "label=;" => {}
            line if line.contains(" [label=, fillcolor=];") => nodes += 1,
            line if line.starts_with('r') && line.contains(" -> r") && line.ends_with(';') => {
                edges += 1;
            }
            other => panic!("`{other}` is no statement"),
        }
    }
    assert_eq!(depth, 0);
    (nodes, edges)
}

/// A line without its quoted strings, which must end on it.
fn without_strings(line: &str) -> String {
    let (mut bare, mut inside, mut escaped) = (String::new(), false, false);
    for letter in line.chars() {
        assert!(!letter.is_control(), "{line:?}");
        match letter {
            '"' if !escaped => inside = !inside,
            letter if !inside => bare.push(letter),
            _ => {}
        }
        escaped = inside && letter == '\\' && !escaped;
    }
    assert!(!inside, "a string goes on after {line:?}");
    bare
}

/// Lets Graphviz read a graph, where it is installed.
fn graphviz(text: &str) {
    let mut command = Command::new("dot");
    command.arg("-Tcanon").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        println!("skipped: there is no Graphviz in the path");
        return;
    };
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !error.contains("syntax"), "{error}");
}
