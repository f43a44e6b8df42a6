//! All regions as a table that can be searched.

use std::collections::HashMap;

use onebit_plan::manifest::Manifest;

use super::{bytes, count, escape, target_class, time};
use crate::inspect::predict;

/// One row a region, with the place that the graph links to.
pub(super) fn section(manifest: &Manifest) -> String {
    let predicted = predicted(manifest);
    let mut rows = String::new();
    for (index, region) in manifest.regions.iter().enumerate() {
        let reads: Vec<String> = region
            .reads
            .iter()
            .filter_map(|&from| {
                let name = escape(&manifest.regions.get(from as usize)?.name);
                Some(format!("<a href=\"#r{from}\">{name}</a>"))
            })
            .collect();
        let intensity = match region.weight_bytes {
            0 => String::new(),
            size => format!("{:.2}", region.macs as f64 / size as f64),
        };
        let seconds = predicted.get(&index).map_or(String::new(), |seconds| time(*seconds));
        let number = |text: &str| format!("<td class=\"number\">{text}</td>");
        rows.push_str(&format!(
            "<tr id=\"r{index}\" class=\"region\" tabindex=\"-1\">{}<td><code>{}</code></td>\
             <td><span class=\"key {}\">{}</span></td><td>{}</td>{}{}{}{}<td>{}</td></tr>\n",
            number(&index.to_string()),
            escape(&region.name),
            target_class(&region.target),
            escape(&region.target),
            escape(&region.ops.join(" ")),
            number(&shown(region.weight_bytes, bytes)),
            number(&shown(region.macs, count)),
            number(&intensity),
            number(&seconds),
            reads.join(" ")
        ));
    }
    format!(
        "<p>Weights and MACs are of one row. Times are <em>predicted</em> for a Strix Halo: of the first GPU \
         entry's dispatch, where the region gives it its name, or of the NPU's calls for 32 rows.</p>\n\
         <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"All regions\"><table id=\"all\">\n\
         <thead><tr><th scope=\"col\" class=\"number\">#</th><th scope=\"col\">region</th><th scope=\"col\">on</th>\
         <th scope=\"col\">ops</th><th scope=\"col\" class=\"number\">weights</th><th scope=\"col\" class=\"number\">MACs</th>\
         <th scope=\"col\" class=\"number\">MACs a byte</th><th scope=\"col\" class=\"number\">predicted</th>\
         <th scope=\"col\">reads</th></tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n"
    )
}

/// Nothing in the place of 0: most regions read no weights.
fn shown(value: u64, write: impl Fn(u64) -> String) -> String {
    if value == 0 { String::new() } else { write(value) }
}

/// Predicted seconds by region.
fn predicted(manifest: &Manifest) -> HashMap<usize, f64> {
    let places: HashMap<&str, usize> =
        manifest.regions.iter().enumerate().map(|(index, it)| (it.name.as_str(), index)).collect();
    let gpu = manifest.gpu.as_ref().and_then(|gpu| gpu.entries.first());
    let gpu = gpu.map_or(Vec::new(), |entry| predict::gpu(manifest, entry));
    let mut seconds = HashMap::new();
    for work in gpu.into_iter().chain(predict::array(manifest)) {
        if let Some(&index) = places.get(work.region.as_str()) {
            *seconds.entry(index).or_insert(0.0) += work.seconds;
        }
    }
    seconds
}
