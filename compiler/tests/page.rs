//! The page of a plan: complete without a network, safe with hostile names, right in a browser.

mod common;

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use onebit_plan::PlanFile;
use onebit_test_support::TinyOptions;
use onebitc::inspect::html;

use common::{model, onebitc, plan, rewritten, small};

/// A name that would run if anything forgot to escape it.
const HOSTILE: &str = "</title></style><script>document.title='owned'</script>\
                       <img src=x onerror=\"document.title='owned'\">'\"&\u{0}\u{1b}";

/// Programs that are Chromium, by their names.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// How long a browser may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The page of a tiny model, and the same with every name hostile.
fn pages(folder: &Path) -> [std::path::PathBuf; 2] {
    let options = TinyOptions { layers: 4, ..TinyOptions::default() };
    let gguf = model(folder, "m", "llama", &options);
    let good = plan(folder, "good", &gguf, &small());
    let hostile = folder.join("hostile.plan");
    rewritten(&good, &hostile, |manifest| {
        manifest.model.name = HOSTILE.into();
        manifest.model.architecture = HOSTILE.into();
        manifest.provenance.source = HOSTILE.into();
        manifest.provenance.tool = HOSTILE.into();
        manifest.provenance.options.push(HOSTILE.into());
        for region in &mut manifest.regions {
            region.name.push_str(HOSTILE);
            region.ops.push(HOSTILE.into());
            region.target = HOSTILE.into();
        }
        for entry in &mut manifest.entries {
            entry.name.push_str(HOSTILE);
            entry.buffers.iter_mut().for_each(|buffer| buffer.name.push_str(HOSTILE));
        }
        manifest.traced.clear();
        for record in &mut manifest.weights {
            record.tensors.push(HOSTILE.into());
            record.format = HOSTILE.into();
        }
        let gpu = manifest.gpu.as_mut().unwrap();
        gpu.kernels.iter_mut().for_each(|kernel| kernel.name.push_str(HOSTILE));
        for entry in &mut gpu.entries {
            entry.name.push_str(HOSTILE);
            entry.dispatches.iter_mut().for_each(|it| it.region.push_str(HOSTILE));
        }
    });
    [good, hostile].map(|path| {
        let page = path.with_extension("html");
        let output = onebitc(&[&"inspect", &path, &"--html", &page]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        page
    })
}

/// Whatever the names are: the same elements stand in the page, and nothing of them is markup.
#[test]
fn hostile_names_are_text() {
    let folder = tempfile::tempdir().unwrap();
    let [good, hostile] = pages(folder.path()).map(|page| std::fs::read_to_string(page).unwrap());
    for tag in ["<script", "<style", "<img", "<iframe", "<title>", "</script", "<svg", "<tr"] {
        assert_eq!(good.matches(tag).count(), hostile.matches(tag).count(), "{tag}");
    }
    assert_eq!(good.matches("<script").count(), 1);
    assert!(hostile.contains("&lt;script&gt;document.title=&#39;owned&#39;"));
    assert!(!hostile.contains(char::from(0)));
    for outside in ["http:", "https:", "url(", "@import", "src="] {
        assert!(!good.contains(outside), "{outside} in the page");
    }
}

/// Tags of the page close in the order in which they open.
#[test]
fn markup_is_balanced() {
    let folder = tempfile::tempdir().unwrap();
    for page in pages(folder.path()) {
        let text = std::fs::read_to_string(page).unwrap();
        let (script, style) = (text.find("<script>").unwrap(), text.find("</style>").unwrap());
        let mut open: Vec<&str> = Vec::new();
        let mut rest = &text[style + "</style>".len()..script];
        while let Some(at) = rest.find('<') {
            let end = at + rest[at..].find('>').expect("every tag ends");
            let tag = &rest[at + 1..end];
            rest = &rest[end + 1..];
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
            if let Some(closed) = tag.strip_prefix('/') {
                if closed != "head" {
                    assert_eq!(open.pop(), Some(closed), "near {tag}");
                }
            } else if !tag.ends_with('/') && !["input", "meta", "link"].contains(&name) {
                open.push(name);
            }
        }
        assert_eq!(open, ["body"], "only the body is open where the script begins");
    }
}

#[test]
fn every_region_has_its_row_and_its_box() {
    let folder = tempfile::tempdir().unwrap();
    let [good, _] = pages(folder.path());
    let plan = PlanFile::open(good.with_extension("plan")).unwrap();
    let text = html::page(&plan);
    for index in 0..plan.manifest().regions.len() {
        assert_eq!(text.matches(&format!("<tr id=\"r{index}\"")).count(), 1);
        assert_eq!(text.matches(&format!("data-region=\"{index}\"")).count(), 1);
    }
    let buffers: usize = plan.manifest().entries.iter().map(|entry| entry.buffers.len()).sum();
    let timelines = text.split("class=\"timeline\"").skip(1);
    let boxes: usize =
        timelines.map(|chart| chart.split("</svg>").next().unwrap().matches("<rect").count()).sum();
    assert_eq!(boxes, buffers);
    assert!(text.contains("equal layers"), "layers fold");
    assert!(text.contains("<em>predicted</em>"), "times say that they are predicted");
}

/// In a browser: the page is there, the search runs, links lead to rows, no errors on the console.
#[test]
fn a_browser_shows_it() {
    let folder = tempfile::tempdir().unwrap();
    let pages = pages(folder.path());
    let Some(browser) = browser() else {
        println!("skipped: there is no Chromium in the path");
        return;
    };
    for (page, hostile) in pages.iter().zip([false, true]) {
        let text = std::fs::read_to_string(page).unwrap();
        let probed = page.with_extension("probed.html");
        std::fs::write(&probed, text.replace("</body>", &format!("{PROBE}</body>"))).unwrap();
        let Some(output) = dump_dom(browser, folder.path(), &probed) else { return };
        let (dom, log) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
        let console: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
        assert!(console.is_empty(), "{console:#?}");
        let result = dom.split("data-result=\"").nth(1).and_then(|rest| rest.split('"').next());
        let regions = PlanFile::open(page.with_extension("plan")).unwrap().manifest().regions.len();
        let found = text.matches("<tr id=\"r").count();
        assert_eq!(found, regions);
        let owned = if hostile { "owned:false" } else { "" };
        let result = result.unwrap_or_else(|| panic!("the probe did not run: {log}"));
        for part in [
            format!("rows:{regions}"),
            format!("boxes:{regions}"),
            "found:4 of".into(),
            "visible:4".into(),
            "marked:4".into(),
            "all:true".into(),
            "target:true".into(),
            "wide:false".into(),
            owned.into(),
        ] {
            assert!(result.contains(&part), "{part} is missing in {result}");
        }
    }
}

/// Uses the page as a person would, and leaves what it saw in an attribute.
const PROBE: &str = r##"<script>
(() => {
  const rows = [...document.querySelectorAll("tr.region")];
  const search = document.getElementById("search");
  const type = (text) => {
    search.value = text;
    search.dispatchEvent(new Event("input"));
  };
  const result = [`rows:${rows.length}`, `boxes:${document.querySelectorAll("[data-region] rect").length}`];
  document.dispatchEvent(new KeyboardEvent("keydown", { key: "/", bubbles: true }));
  result.push(`focus:${document.activeElement === search}`);
  type("attn_output linear");
  result.push(`found:${document.getElementById("found").value}`);
  result.push(`visible:${rows.filter((row) => row.offsetParent !== null).length}`);
  result.push(`marked:${document.querySelectorAll(".node.found").length}`);
  type("");
  result.push(`all:${rows.every((row) => row.offsetParent !== null)}`);
  const links = [...document.querySelectorAll("a[href^='#']")];
  result.push(`target:${links.every((link) => document.getElementById(link.getAttribute("href").slice(1)))}`);
  result.push(`wide:${document.documentElement.scrollWidth > document.documentElement.clientWidth}`);
  result.push(`owned:${document.title === "owned"}`);
  document.body.dataset.result = result.join(" ");
})();
</script>"##;

fn browser() -> Option<&'static str> {
    let runs = |name: &&str| {
        Command::new(name).arg("--version").output().is_ok_and(|it| it.status.success())
    };
    BROWSERS.into_iter().find(|name| runs(name))
}

/// The page's elements after its scripts have run; none, with a word why, when the browser cannot
/// start here.
fn dump_dom(browser: &str, folder: &Path, page: &Path) -> Option<Output> {
    let mut command = Command::new(browser);
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--enable-logging=stderr", "--window-size=1500,1000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.join("browser").display()))
        .arg(format!("file://{}", page.display()))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            println!("skipped: {browser} does not start: {error}");
            return None;
        }
    };
    let start = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(start.elapsed() < PATIENCE, "the browser took {:?}", start.elapsed());
    if output.stdout.is_empty() {
        println!("skipped: {browser} shows nothing: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(output)
}
