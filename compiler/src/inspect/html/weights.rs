//! Weights by storage class.

use std::collections::{BTreeMap, BTreeSet};

use onebit_plan::manifest::Manifest;

use super::{bytes, count, escape, table};

/// What is stored in one form.
#[derive(Default)]
struct Class<'m> {
    formats: BTreeSet<&'m str>,
    matrices: usize,
    elements: u64,
    bytes: u64,
}

/// A bar and a table, largest first.
pub(super) fn section(manifest: &Manifest) -> String {
    let mut classes: BTreeMap<String, Class<'_>> = BTreeMap::new();
    let mut add = |name: String, format, (rows, columns): (u32, u32), bytes: u64| {
        let class = classes.entry(name).or_default();
        class.formats.insert(format);
        class.matrices += 1;
        class.elements += u64::from(rows) * u64::from(columns);
        class.bytes += bytes;
    };
    for record in &manifest.weights {
        let name = format!("{:?}", record.class);
        add(name, record.format.as_str(), (record.rows, record.columns), record.bytes);
    }
    for product in manifest.array.iter().flat_map(|array| &array.products) {
        let shape = (product.rows, product.columns);
        add("int8 for the npu".into(), product.format.as_str(), shape, product.bytes);
    }
    let total: u64 = classes.values().map(|class| class.bytes).sum();
    let mut classes: Vec<(String, Class<'_>)> = classes.into_iter().collect();
    classes.sort_by(|(a, x), (b, y)| y.bytes.cmp(&x.bytes).then(a.cmp(b)));
    let share = |class: &Class<'_>| 100.0 * class.bytes as f64 / total.max(1) as f64;
    let bar: String = classes
        .iter()
        .enumerate()
        .map(|(index, (name, class))| {
            let (share, label) = (share(class), escape(name));
            let text = if share > 8.0 { label.as_str() } else { "" };
            format!(
                "<span class=\"c{}\" style=\"width:{share:.3}%\" title=\"{label}: {share:.1} %\">{text}</span>",
                index % 8
            )
        })
        .collect();
    let rows: Vec<Vec<String>> = classes
        .iter()
        .map(|(name, class)| {
            let formats: Vec<&str> = class.formats.iter().copied().collect();
            let bits = 8.0 * class.bytes as f64 / class.elements.max(1) as f64;
            vec![
                escape(name),
                escape(&formats.join(", ")),
                class.matrices.to_string(),
                count(class.elements),
                bytes(class.bytes),
                format!("{:.1} %", share(class)),
                format!("{bits:.2}"),
            ]
        })
        .collect();
    let titles = [
        "storage class",
        "formats in the model",
        "#matrices",
        "#weights",
        "#size",
        "#share",
        "#bits a weight",
    ];
    format!("<div class=\"bar\" aria-hidden=\"true\">{bar}</div>\n{}", table(&titles, &rows))
}
