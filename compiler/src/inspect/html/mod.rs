//! A plan as one page of HTML that needs nothing else: no network, no other file.
//!
//! Everything can be read without a script; the script searches and unfolds. All text that comes
//! from the plan goes through [`escape`], and the page forbids itself to load anything.

mod chart;
mod dispatches;
mod graph;
mod regions;
mod roofline;
mod summary;
mod timeline;
mod weights;

use onebit_plan::PlanFile;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
/// Nothing is fetched, whatever a name in the plan says.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      img-src data:";

/// A part of the page: its place, its title, what it holds.
struct Section {
    id: &'static str,
    title: &'static str,
    body: String,
}

/// The page of `plan`.
pub fn page(plan: &PlanFile) -> String {
    let manifest = plan.manifest();
    let sections = [
        Section { id: "summary", title: "Summary", body: summary::section(plan) },
        Section { id: "graph", title: "Regions", body: graph::section(manifest) },
        Section { id: "memory", title: "Memory", body: timeline::section(manifest) },
        Section { id: "weights", title: "Weights", body: weights::section(manifest) },
        Section { id: "roofline", title: "Roofline", body: roofline::section(manifest) },
        Section { id: "regions", title: "All regions", body: regions::section(manifest) },
        Section { id: "dispatches", title: "GPU dispatches", body: dispatches::section(manifest) },
    ];
    let name = escape(&manifest.model.name);
    let source = escape(&manifest.provenance.source);
    let links: String = sections
        .iter()
        .map(|section| format!("<a href=\"#{}\">{}</a>\n", section.id, section.title))
        .collect();
    let bodies: String = sections
        .iter()
        .map(|Section { id, title, body }| {
            format!("<section id=\"{id}\">\n<h2>{title}</h2>\n{body}</section>\n")
        })
        .collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <title>{name} - plan</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#summary\">Skip to content</a>\n\
         <header>\n<h1>{name}</h1>\n<p>plan of {source}</p>\n</header>\n\
         <nav aria-label=\"Sections\">\n{links}\
         <label class=\"search\" hidden>Find a region <input type=\"search\" id=\"search\" \
         placeholder=\"attn_q, blk.3, npu\" autocomplete=\"off\" spellcheck=\"false\">\
         <kbd>/</kbd> <output id=\"found\" for=\"search\"></output></label>\n</nav>\n\
         <main>\n{bodies}</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n"
    )
}

/// Text for elements and quoted attributes. Control characters, which HTML does not have, become
/// the replacement character.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(' '),
            letter if letter.is_control() => out.push(char::REPLACEMENT_CHARACTER),
            letter => out.push(letter),
        }
    }
    out
}

/// `text`, cut to `most` letters.
fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}\u{2026}")
}

/// Bytes with a unit and three digits.
fn bytes(count: u64) -> String {
    let (mut value, mut unit) = (count as f64, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    if unit == "B" { format!("{count} B") } else { format!("{} {unit}", digits(value)) }
}

/// A count with a unit and three digits.
fn count(count: u64) -> String {
    let (mut value, mut unit) = (count as f64, "");
    for larger in [" k", " M", " G", " T", " P"] {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1000.0, larger);
    }
    if unit.is_empty() { count.to_string() } else { format!("{}{unit}", digits(value)) }
}

/// Seconds as microseconds or milliseconds.
fn time(seconds: f64) -> String {
    let micro = seconds * 1e6;
    if micro < 1000.0 {
        format!("{} us", digits(micro))
    } else {
        format!("{} ms", digits(micro / 1e3))
    }
}

fn digits(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// The class that colours what runs on `target`. Other names than ours have one of their own.
fn target_class(target: &str) -> &'static str {
    match target {
        "cpu" => "cpu",
        "npu" => "npu",
        _ => "other",
    }
}

/// A table; cells are HTML, columns whose title begins with `#` are numbers.
fn table(titles: &[&str], rows: &[Vec<String>]) -> String {
    let number = |title: &str| title.starts_with('#');
    let head: String = titles
        .iter()
        .map(|title| {
            let class = if number(title) { " class=\"number\"" } else { "" };
            format!("<th scope=\"col\"{class}>{}</th>", title.strip_prefix('#').unwrap_or(title))
        })
        .collect();
    let row = |cells: &Vec<String>| {
        let cell = |(title, cell): (&&str, &String)| {
            let class = if number(title) { " class=\"number\"" } else { "" };
            format!("<td{class}>{cell}</td>")
        };
        format!("<tr>{}</tr>\n", titles.iter().zip(cells).map(cell).collect::<String>())
    };
    let body: String = rows.iter().map(row).collect();
    format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Table\"><table>\n\
         <thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_escapes() {
        assert_eq!(
            escape("<script>'&\"</script>"),
            "&lt;script&gt;&#39;&amp;&quot;&lt;/script&gt;"
        );
        assert_eq!(escape("a\0b\u{1b}c\nd"), "a\u{fffd}b\u{fffd}c d");
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!([0, 999, 1024, 1_572_864].map(bytes), ["0 B", "999 B", "1.00 KiB", "1.50 MiB"]);
        assert_eq!([7, 1000, 1_769_472].map(count), ["7", "1.00 k", "1.77 M"]);
        assert_eq!([2.5e-6, 1.2e-3].map(time), ["2.50 us", "1.20 ms"]);
        assert_eq!(shortened("attention", 5), "atte\u{2026}");
    }
}
