//! How the elements of a row lie on the invocations of a workgroup.
//!
//! Elements count in blocks of 32, each of one mini-row; a mini-row's last block may be short.
//! Eight neighbouring invocations have a block. *Item* `t = lane + chunk * workgroup` has the
//! elements `(t / 8 % blocks) * 32 + t % 8 * 4` on of mini-row `t / 8 / blocks`.

/// Elements of a block.
pub const BLOCK: usize = 32;
/// Chunks that are unrolled; more of them loop.
const UNROLLED: usize = 4;

/// Mini-rows on a workgroup.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub heads: usize,
    pub width: usize,
    pub workgroup: usize,
}

impl Layout {
    /// Blocks of a mini-row.
    pub fn blocks(self) -> usize {
        self.width.div_ceil(BLOCK)
    }

    /// Items of all mini-rows.
    fn items(self) -> usize {
        self.heads * self.blocks() * 8
    }

    /// Times that the workgroup is laid over the items.
    pub fn chunks(self) -> usize {
        self.items().div_ceil(self.workgroup)
    }

    /// Whether chunks are written out one by one.
    pub fn unrolled(self) -> bool {
        self.chunks() <= UNROLLED
    }

    /// Statements that say where an invocation is in a chunk: `block{tag}` among all mini-rows,
    /// `head{tag}` and element `e{tag}` within it, all in bounds; and `live{tag}`, whether they
    /// are its own rather than put there to stay in bounds. `chunk` is a WGSL expression.
    pub fn locate(self, tag: &str, chunk: &str, last: bool) -> String {
        let Self { heads, width, workgroup, .. } = self;
        let (items, blocks) = (self.items(), self.blocks());
        let mut out = format!("let t{tag} = lane + {chunk} * {workgroup}u;\n");
        let whole = !last || items.is_multiple_of(workgroup);
        let item = if whole { format!("t{tag}") } else { format!("min(t{tag}, {}u)", items - 1) };
        out += &format!("let block{tag} = {item} / 8u;\n");
        let within = if heads == 1 {
            out += &format!("let head{tag} = 0u;\n");
            format!("block{tag}")
        } else {
            out += &format!("let head{tag} = block{tag} / {blocks}u;\n");
            format!("(block{tag} - head{tag} * {blocks}u)")
        };
        let element = format!("{within} * {BLOCK}u + ({item} & 7u) * 4u");
        let full = width.is_multiple_of(BLOCK);
        if full {
            out += &format!("let e{tag} = {element};\n");
        } else {
            out += &format!("let own{tag} = {element};\n");
            out += &format!("let e{tag} = min(own{tag}, {}u);\n", width - 4);
        }
        let live: Vec<String> = [
            (!whole).then(|| format!("t{tag} < {items}u")),
            (!full).then(|| format!("own{tag} < {width}u")),
        ]
        .into_iter()
        .flatten()
        .collect();
        let live = if live.is_empty() { "true".to_owned() } else { live.join(" && ") };
        out + &format!("let live{tag} = {live};\n")
    }
}
