//! What names and order of a plan's regions say.

use crate::manifest::Manifest;

/// Layer and the rest of `@blk.3.attn_q`; none for what belongs to no layer.
pub fn layer_of(region: &str) -> Option<(u32, &str)> {
    let (number, rest) = region.strip_prefix("@blk.")?.split_once('.')?;
    // A number is written one way only, or two layers would be one.
    let layer: u32 = number.parse().ok()?;
    (layer.to_string() == number).then_some((layer, rest))
}

impl Manifest {
    /// The region of each of the array's products, by name; empty where there are too few. Both
    /// stand in the order of execution; a stack of weights that takes several calls is several
    /// products, of which the first begins at row 0.
    pub fn product_regions(&self) -> Vec<&str> {
        let mut on_array = self.regions.iter().filter(|region| region.target == "npu");
        let mut current = "";
        let products = self.array.iter().flat_map(|array| &array.products);
        let region = |first_row| {
            if first_row == 0 {
                current = on_array.next().map_or("", |region| &region.name);
            }
            current
        };
        products.map(|product| product.first_row).map(region).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_have_one_spelling() {
        assert_eq!(layer_of("@blk.12.attn_q.rope"), Some((12, "attn_q.rope")));
        for name in ["@blk.012.attn_q", "@blk.+1.attn_q", "@blk.1", "blk.1.attn_q", "@blk.x.y"] {
            assert_eq!(layer_of(name), None, "{name}");
        }
    }
}
