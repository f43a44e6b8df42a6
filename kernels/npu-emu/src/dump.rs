//! A configured array as text: programs, routes, descriptors, locks.

use std::fmt::Write as _;

use onebit_aie::isa;

use crate::array::Array;
use crate::descriptor::Descriptor;
use crate::geometry::TileKind;
use crate::routes::{Route, Routes};
use crate::switch::Feed;
use crate::tile::Tile;

/// The text of every tile that is configured in any way.
pub fn array(array: &Array) -> String {
    let mut text = String::new();
    for tile in array.tiles() {
        let about = tile_text(tile);
        if !about.is_empty() {
            text.push_str(&format!("{} ({:?})\n{about}", tile.id, tile.id.kind()));
        }
    }
    match array.routes() {
        Ok(routes) => text.push_str(&routes_text(&routes)),
        Err(fault) => text.push_str(&format!("routes: {fault}\n")),
    }
    text
}

/// The listing of a core's program memory: byte addresses and instruction words, up to the last
/// byte that is not zero. Behind bytes that are no word it goes on at the next multiple of 16,
/// where a function may start.
pub fn program(code: &[u8]) -> String {
    let end = code.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let mut text = String::new();
    let mut offset = 0;
    while offset < end {
        match isa::Bundle::decode(code, offset) {
            Ok(word) => {
                text.push_str(&format!("    {offset:#06x}  {word}\n"));
                offset += word.byte_len();
            }
            Err(error) => {
                text.push_str(&format!("    {offset:#06x}  ({error})\n"));
                offset = (offset + 1).next_multiple_of(16);
            }
        }
    }
    text
}

fn tile_text(tile: &Tile) -> String {
    let mut text = String::new();
    for (port, feed) in tile.switch.feeds() {
        match feed {
            Feed::Circuit { slave } => {
                let _ = writeln!(text, "  master {port} from slave port {slave}");
            }
            Feed::Packets { arbiter, selections, drops_header } => {
                let header = if drops_header { ", without headers" } else { "" };
                let _ = writeln!(
                    text,
                    "  master {port} from arbiter {arbiter}, selections {selections:#06b}{header}"
                );
            }
        }
    }
    for (port, mode) in tile.switch.open_slaves() {
        for slot in tile.switch.slots(port) {
            let _ = writeln!(text, "  slave {port} ({mode:?}): {slot:?}");
        }
    }
    for index in 0..tile.id.kind().locks() {
        if tile.locks.value(index) != 0 {
            let _ = writeln!(text, "  lock {index}: {}", tile.locks.value(index));
        }
    }
    for (index, words) in tile.descriptors.iter().enumerate() {
        let descriptor = Descriptor::decode(tile.id.kind(), words);
        if descriptor.valid {
            let _ = writeln!(text, "  descriptor {index}: {}", descriptor_text(&descriptor));
        }
    }
    for channel in &tile.channels {
        let active = channel.active.iter().map(|active| active.task);
        for task in active.chain(channel.queue.iter().copied()) {
            let (direction, index) = (channel.id.direction, channel.id.index);
            let tells = if task.tells { ", tells" } else { "" };
            let _ = writeln!(
                text,
                "  {direction} {index}: descriptor {} x {}{tells}",
                task.descriptor, task.repeats
            );
        }
    }
    if tile.id.kind() == TileKind::Compute && tile.program.iter().any(|&byte| byte != 0) {
        let state = if tile.core_runs() { "enabled" } else { "disabled" };
        let _ = writeln!(text, "  core {state}:\n{}", program(&tile.program));
    }
    for offset in tile.unknown() {
        let _ = writeln!(text, "  unknown register {offset:#07x}");
    }
    text
}

fn descriptor_text(descriptor: &Descriptor) -> String {
    let mut text = format!("{} words at byte {:#x}", descriptor.length, descriptor.base);
    for dimension in &descriptor.dimensions {
        if dimension.step != 1 || dimension.wrap.is_some() || dimension.before + dimension.after > 0
        {
            let wrap = dimension.wrap.map_or_else(|| String::from("on"), |wrap| wrap.to_string());
            let _ = write!(text, ", {wrap} by {}", dimension.step);
            if dimension.before + dimension.after > 0 {
                let _ = write!(text, " (zeros {} and {})", dimension.before, dimension.after);
            }
        }
    }
    let iteration = descriptor.iteration;
    if iteration.wrap > 1 {
        let _ =
            write!(text, ", run {} of {} by {}", iteration.current, iteration.wrap, iteration.step);
    }
    if let Some(lock) = descriptor.acquire {
        let _ = write!(text, ", acquires {} ({})", lock.lock, lock.value);
    }
    if let Some(lock) = descriptor.release {
        let _ = write!(text, ", releases {} ({:+})", lock.lock, lock.value);
    }
    if let Some(packet) = descriptor.packet {
        let _ = write!(text, ", packet {}", packet.id);
    }
    if let Some(next) = descriptor.next {
        let _ = write!(text, ", then {next}");
    }
    text
}

fn routes_text(routes: &Routes) -> String {
    let mut text = String::from("routes\n");
    for (source, route) in &routes.from {
        let paths: Vec<(String, _)> = match route {
            Route::Circuit(path) => vec![(String::new(), path)],
            Route::Packets(paths) => {
                paths.iter().map(|(id, path)| (format!(" packet {id}"), path)).collect()
            }
        };
        for (packet, path) in paths {
            let ends: Vec<String> =
                path.branches.iter().map(|branch| branch.end.to_string()).collect();
            let _ = writeln!(text, "  {source}{packet} -> {}", ends.join(", "));
        }
    }
    text
}
