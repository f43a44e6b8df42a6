//! The loop over positions: scores, the running maximum and the sums.

use super::{
    KeyValue, LOWEST, Shape, TEAM, Tiling, declare_bases, declare_row, declare_shares, form,
    out_word, partial_words, words,
};
use crate::kernel::Source;
use crate::rows::functions::{declare_bounded, float};
use onebit_plan::gpu::binding;

/// What fixes the loop.
pub struct Tile<'a> {
    pub shape: &'a Shape,
    pub tiling: Tiling,
    pub splits: u32,
    pub kv: KeyValue<'a>,
}

/// Keys or values of a tile.
#[derive(Clone, Copy)]
enum Side {
    Key,
    Value,
}

impl Side {
    /// Begins the names of its eights: `k0_1` is eight 1 of the invocation's of position 0.
    fn letter(self) -> &'static str {
        match self {
            Self::Key => "k",
            Self::Value => "v",
        }
    }

    /// The WGSL variable of its first word.
    fn base(self) -> &'static str {
        match self {
            Self::Key => "keys",
            Self::Value => "values",
        }
    }
}

impl Tile<'_> {
    /// Says which row, split and heads the workgroup has.
    pub fn place(&self, source: &mut Source) {
        let parts = self.tiling.parts;
        source.line("let row = group.z;\nlet split = group.x;");
        source.line(format!("let kv = group.y / {parts}u;\nlet part = group.y % {parts}u;"));
    }

    /// Finds out what the workgroup has to do; one without positions ends here.
    pub fn begin(&self, source: &mut Source) {
        let each = self.tiling.each;
        declare_row(source);
        declare_bases(source, self.shape);
        declare_shares(source, self.shape, self.splits);
        if self.splits > 1 {
            source.line("if split * share >= tiles {");
            self.nothing(source);
            source.line("return;\n}");
        }
        source.line("let first_tile = low_tile + split * share;");
        source.line("let end_tile = low_tile + min((split + 1u) * share, tiles);");
        source.line("let own = end_tile == low_tile + tiles;");
        // Rows of the cache that are there already; what lies behind is never used.
        source.line(match self.kv {
            KeyValue::Cached => "let last = position;",
            KeyValue::Fresh { .. } => "let last = max(position, 1u) - 1u;",
        });
        source.line(format!("let j = lane & {}u;\nlet team = lane / {TEAM}u;", TEAM - 1));
        source.line(format!("let mine = team * {each}u;"));
    }

    /// Says that a split has nothing.
    fn nothing(&self, source: &mut Source) {
        let heads = self.tiling.heads;
        let records = source.write(binding::RECORDS);
        let at = self.partial(source, "lane");
        let last = self.shape.value_dim / 4;
        let inside = self.has_head("lane");
        source.line(format!(
            "if lane < {heads}u{inside} {{ {records}[{at} + {last}u] = vec4<u32>(0xff800000u, 0u, 0u, 0u); }}"
        ));
    }

    /// `&& ...`: whether the workgroup's head `head` is one of the model's.
    pub fn has_head(&self, head: &str) -> String {
        let Tiling { group, parts, heads, .. } = self.tiling;
        if group == parts * heads {
            return String::new();
        }
        format!(" && part * {heads}u + {head} < {group}u")
    }

    /// First 16-byte word of the split's partial result of the workgroup's head `head`.
    pub fn partial(&self, source: &mut Source, head: &str) -> String {
        let Tiling { group, heads, .. } = self.tiling;
        let (all, splits, each) = (self.shape.heads, self.splits, partial_words(self.shape));
        let out = out_word(source);
        format!(
            "{out} + ((row * {all}u + kv * {group}u + part * {heads}u + {head}) * {splits}u + split) * {each}u"
        )
    }

    /// Loads the first tile, before the operands are there.
    pub fn load_first(&self, source: &mut Source) {
        self.load(source, "first_tile", "var ", "");
    }

    /// Loads a tile into variables, whose names `prefix` begins after the keyword.
    fn load(&self, source: &mut Source, tile: &str, keyword: &str, prefix: &str) {
        let cache = match self.kv {
            KeyValue::Cached => source.read(binding::CACHE),
            KeyValue::Fresh { .. } => source.write(binding::CACHE),
        };
        let positions = self.tiling.positions();
        for i in 0..self.tiling.each {
            source.line(format!(
                "let {prefix}at{i} = min({tile} * {positions}u + mine + {i}u, last);"
            ));
        }
        for side in [Side::Key, Side::Value] {
            let (letter, base, dim) = (side.letter(), side.base(), self.dim(side));
            let of_row = form::record_words(self.shape, dim);
            for i in 0..self.tiling.each {
                let record = format!("{base} + {prefix}at{i} * {of_row}u");
                for w in 0..self.held(side) {
                    let held = form::load(self.shape, cache, &record, dim, &self.word(side, w));
                    source.line(format!("{keyword}{prefix}{letter}{i}_{w} = {held};"));
                }
            }
        }
    }

    fn dim(&self, side: Side) -> u32 {
        match side {
            Side::Key => self.shape.key_dim,
            Side::Value => self.shape.value_dim,
        }
    }

    /// Eights that an invocation holds of a position.
    fn held(&self, side: Side) -> u32 {
        words(self.dim(side)).div_ceil(TEAM)
    }

    /// The place of an invocation's eight `w` in its position, one within it where there is none.
    fn word(&self, side: Side, w: u32) -> String {
        let place = format!("j + {}u", w * TEAM);
        let of_row = words(self.dim(side));
        if (w + 1) * TEAM <= of_row { place } else { format!("min({place}, {}u)", of_row - 1) }
    }

    /// The loop, from zeroed sums to those of each eight invocations: the maximum `m{h}`, the sum
    /// `l{h}` and the weighted values `a{h}_{w}l` and `a{h}_{w}h` of head h.
    pub fn run(&self, source: &mut Source) {
        for h in 0..self.tiling.heads {
            source.line(format!("var m{h} = {LOWEST};\nvar l{h} = 0.0;"));
            for w in 0..self.held(Side::Value) {
                source.line(format!("var a{h}_{w}l = vec4<f32>(0.0);"));
                source.line(format!("var a{h}_{w}h = vec4<f32>(0.0);"));
            }
        }
        source.line("for (var tile = first_tile; tile < end_tile; tile += 1u) {");
        self.load(source, "(tile + 1u)", "let ", "next_");
        self.positions(source);
        self.settle(source);
        // Keys are done with before values become floats: registers hold one side at a time.
        self.unpack(source, Side::Key);
        (0..self.tiling.heads).for_each(|h| self.weights(source, h));
        self.unpack(source, Side::Value);
        (0..self.tiling.heads).for_each(|h| self.add(source, h));
        for side in [Side::Key, Side::Value] {
            for i in 0..self.tiling.each {
                for w in 0..self.held(side) {
                    let name = format!("{}{i}_{w}", side.letter());
                    source.line(format!("{name} = next_{name};"));
                }
            }
        }
        source.line("}");
    }

    /// Names the positions and whether the row sees them.
    fn positions(&self, source: &mut Source) {
        let positions = self.tiling.positions();
        let windowed = if self.shape.window == 0 { "" } else { " && q{i} >= low" };
        for i in 0..self.tiling.each {
            let windowed = windowed.replace("{i}", &i.to_string());
            source.line(format!(
                "let q{i} = tile * {positions}u + mine + {i}u;\nlet seen{i} = q{i} <= position{windowed};"
            ));
        }
    }

    /// Puts the row's own key and value in their place, and zeros for values behind it: those in
    /// memory may be no numbers.
    fn settle(&self, source: &mut Source) {
        let last = self.tiling.each - 1;
        source.line(format!("if q{last} >= position {{"));
        for i in 0..self.tiling.each {
            if let KeyValue::Fresh { .. } = self.kv {
                source.line(format!("if q{i} == position {{"));
                for side in [Side::Key, Side::Value] {
                    for w in 0..self.held(side) {
                        let (letter, word) = (side.letter(), self.word(side, w));
                        let own = form::own(source, self.shape, letter, &word);
                        source.line(format!("{letter}{i}_{w} = {own};"));
                    }
                }
                source.line("}");
            }
            let zeros = form::held_type(self.shape);
            for w in 0..self.held(Side::Value) {
                source.line(format!("if q{i} > position {{ v{i}_{w} = {zeros}(0u); }}"));
            }
        }
        source.line("}");
    }

    /// Eights to floats: `fk0_1l` and `fk0_1h` are the halves of `k0_1`.
    fn unpack(&self, source: &mut Source, side: Side) {
        for i in 0..self.tiling.each {
            for w in 0..self.held(side) {
                let name = format!("{}{i}_{w}", side.letter());
                let [low, high] = form::floats(self.shape, &name);
                source.line(format!("let f{name}l = {low};\nlet f{name}h = {high};"));
            }
        }
    }

    /// One head's weights over the tile, `p{h}_{i}`, and what the maximum's rise leaves of its sums,
    /// `fade{h}`.
    fn weights(&self, source: &mut Source, h: u32) {
        let each = self.tiling.each;
        source.line(format!("var fade{h}: f32;"));
        (0..each).for_each(|i| source.line(format!("var p{h}_{i}: f32;")));
        source.line("{");
        self.scores(source, h);
        let top = (0..each).fold(format!("m{h}"), |top, i| format!("max({top}, z{i})"));
        source.line(format!("let top = {top};\nfade{h} = exp2(m{h} - top);"));
        for i in 0..each {
            source.line(format!("p{h}_{i} = select(0.0, exp2(z{i} - top), seen{i});"));
        }
        let sum = (1..each).fold(format!("p{h}_0"), |sum, i| format!("({sum} + p{h}_{i})"));
        source.line(format!("l{h} = fma(l{h}, fade{h}, {sum});\nm{h} = top;\n}}"));
    }

    /// Adds the tile's weighted values to one head's sums.
    fn add(&self, source: &mut Source, h: u32) {
        for w in 0..self.held(Side::Value) {
            for part in ["l", "h"] {
                let faded = format!("a{h}_{w}{part} * fade{h}");
                let sum = (0..self.tiling.each).fold(faded, |sum, i| {
                    format!("fma(vec4<f32>(p{h}_{i}), fv{i}_{w}{part}, {sum})")
                });
                source.line(format!("a{h}_{w}{part} = {sum};"));
            }
        }
    }

    /// `z{i}`: score of position i, in units of log2; [`LOWEST`] where the row does not see it.
    fn scores(&self, source: &mut Source, h: u32) {
        let (dim, each) = (self.shape.key_dim, self.tiling.each);
        for w in 0..self.held(Side::Key) {
            let word = self.word(Side::Key, w);
            let whole = (w + 1) * TEAM <= words(dim);
            for (part, offset) in [("l", 0), ("h", 1)] {
                let q = format!("local_q[{}u + ({word}) * 2u]", h * dim / 4 + offset);
                let q = if whole {
                    q
                } else {
                    format!("select(vec4<f32>(0.0), {q}, j + {}u < {}u)", w * TEAM, words(dim))
                };
                source.line(format!("let q_{w}{part} = {q};"));
            }
        }
        for i in 0..each {
            let mut sum = String::new();
            for w in 0..self.held(Side::Key) {
                for part in ["l", "h"] {
                    let (q, k) = (format!("q_{w}{part}"), format!("fk{i}_{w}{part}"));
                    sum = if sum.is_empty() {
                        format!("{q} * {k}")
                    } else {
                        format!("fma({q}, {k}, {sum})")
                    };
                }
            }
            source.line(format!("let d{i} = {sum};"));
            source.line(format!("var s{i} = (d{i}.x + d{i}.y) + (d{i}.z + d{i}.w);"));
        }
        for distance in [1, 2, 4] {
            for i in 0..each {
                source.line(format!("s{i} += subgroupShuffleXor(s{i}, {distance}u);"));
            }
        }
        for i in 0..each {
            let score = self.score(source, &format!("s{i}"));
            source.line(format!("let z{i} = select({LOWEST}, {score}, seen{i});"));
        }
    }

    /// The score of a dot product, in units of log2.
    fn score(&self, source: &mut Source, dot: &str) -> String {
        let Shape { scale, softcap, .. } = *self.shape;
        let log2 = std::f32::consts::LOG2_E;
        if softcap == 0.0 {
            return format!("{dot} * {}", float(scale * log2));
        }
        // tanh by one exponential, that is kept below what Vulkan divides by; a NaN passes.
        let y = format!("({dot} * {})", float(2.0 * scale / softcap * log2));
        declare_bounded(source);
        let cap = float(softcap * log2);
        format!("{cap} * (1.0 - 2.0 / (1.0 + exp2(bounded(vec4<f32>({y})).x)))")
    }
}
