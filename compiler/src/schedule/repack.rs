//! Weight layout: which storage class each matrix takes, where it lies, and packing it.
//!
//! Packing is lossless: a class holds a format's codes and scales exactly. Matrices are laid out in the order the schedule first reads them.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use half::f16;
use onebit_aie::gemm::{Design, Gated, GemmError};
use onebit_cpu::{Row, Scales};
use onebit_ir::quant::{Format, Unpacked};
use onebit_ir::{Elem, Function, Graph, Op, ValueId};
use onebit_plan::abi::{Activation, BLOCK, BUFFER_ALIGN, StorageClass, TILE_ROWS};
use onebit_plan::layout::SPAN;
use rayon::prelude::*;

#[cfg(test)]
mod tests;

use super::array::{self, ArrayId, ArrayLimits, ArrayMatrix, Link, Rounding, fits};
use crate::error::CompileError;

/// A model's tensors, by name.
pub trait TensorSource: Sync {
    /// Format and bytes; rows follow each other without gaps.
    fn tensor(&self, name: &str) -> Option<(Format, &[u8])>;

    /// Says that the tensor's bytes will not be read again soon.
    fn release(&self, name: &str);
}

/// Index of a packed matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WeightId(pub usize);

/// Index of a constant vector of floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VectorId(pub usize);

/// Source tensors stacked by rows, and their packed form.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    pub tensors: Vec<String>,
    /// Rows of each source tensor.
    pub tensor_rows: Vec<usize>,
    pub format: Format,
    pub class: StorageClass,
    pub rows: usize,
    pub columns: usize,
    /// Bytes from the start of the weight segment.
    pub offset: u64,
    pub bytes: u64,
}

/// A vector kept as floats: norm weights and biases.
#[derive(Clone, Debug, PartialEq)]
pub struct Vector {
    pub tensor: String,
    pub format: Format,
    pub len: usize,
    pub offset: u64,
}

/// Weights to be stacked.
struct Source {
    tensors: Vec<String>,
    tensor_rows: Vec<usize>,
    formats: Vec<Format>,
    columns: usize,
}

/// All weights of a plan, in file order.
pub struct WeightStore<'m> {
    source: &'m dyn TensorSource,
    matrices: Vec<Matrix>,
    vectors: Vec<Vector>,
    arrays: Vec<ArrayMatrix>,
    array_limits: ArrayLimits,
    apart: BTreeSet<String>,
    /// What the array is configured with, made when it is first asked for.
    design: OnceCell<Design>,
    placement: Placement,
    order: Vec<Item>,
    bytes: u64,
}

/// Where products run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Placement {
    /// All on the CPU.
    #[default]
    Cpu,
    /// Those that it can do on a neural processor's array.
    Array,
}

#[derive(Clone, Copy, Debug)]
enum Item {
    Matrix(WeightId),
    Vector(VectorId),
    Array(ArrayId),
}

/// The storage class of `format` for rows of `columns` elements: the narrowest that is exact, for
/// IQ1_S if all blocks [have two-level scales](Format::has_super_scales).
pub fn storage_class(format: Format, columns: usize) -> StorageClass {
    let class = match format {
        Format::F32 => StorageClass::F32,
        Format::F16 => StorageClass::F16,
        Format::BF16 => StorageClass::BF16,
        Format::Q4_0 => StorageClass::Q4D,
        Format::Q4_1 => StorageClass::Q4DM,
        Format::Q5_0 => StorageClass::Q5D,
        Format::Q5_1 => StorageClass::Q5DM,
        Format::Q8_0 => StorageClass::Q8D,
        Format::Q1_0 => StorageClass::B1D,
        Format::Tq1_0 | Format::Tq2_0 => StorageClass::T2D,
        Format::Mxfp4 => StorageClass::M4E,
        Format::Iq4Xs => StorageClass::N4K,
        Format::Iq4Nl => StorageClass::N4D,
        Format::Q2K | Format::Iq1S => StorageClass::Q2K,
        Format::Q3K => StorageClass::Q3K,
        Format::Q4K => StorageClass::Q4K,
        Format::Q5K => StorageClass::Q5K,
        Format::Q6K => StorageClass::Q6K,
        _ => StorageClass::I8G16,
    };
    if onebit_cpu::supports(class, columns) { class } else { StorageClass::F32 }
}

/// Whether `class` was made for `format`, or is a wider stand-in until it has its own kernel.
pub fn is_native(format: Format, class: StorageClass) -> bool {
    use StorageClass as C;
    matches!(
        (format, class),
        (Format::F32, C::F32)
            | (Format::F16, C::F16)
            | (Format::BF16, C::BF16)
            | (Format::Q4_0, C::Q4D)
            | (Format::Q4_1, C::Q4DM)
            | (Format::Q5_0, C::Q5D)
            | (Format::Q5_1, C::Q5DM)
            | (Format::Q8_0, C::Q8D)
            | (Format::Q1_0, C::B1D)
            | (Format::Tq1_0 | Format::Tq2_0, C::T2D)
            | (Format::Mxfp4, C::M4E)
            | (Format::Iq4Xs, C::N4K)
            | (Format::Iq4Nl, C::N4D)
            | (Format::Q2K | Format::Iq1S, C::Q2K)
            | (Format::Q3K, C::Q3K)
            | (Format::Q4K, C::Q4K)
            | (Format::Q5K, C::Q5K)
            | (Format::Q6K, C::Q6K)
    )
}

impl<'m> WeightStore<'m> {
    pub fn new(source: &'m dyn TensorSource, placement: Placement) -> Self {
        Self {
            source,
            matrices: Vec::new(),
            vectors: Vec::new(),
            arrays: Vec::new(),
            array_limits: ArrayLimits::default(),
            apart: BTreeSet::new(),
            design: OnceCell::new(),
            placement,
            order: Vec::new(),
            bytes: 0,
        }
    }

    /// The same store with other limits for products of the array.
    pub fn with_array_limits(self, array_limits: ArrayLimits) -> Self {
        Self { array_limits, ..self }
    }

    /// How products of the array are cut.
    pub fn array_limits(&self) -> &ArrayLimits {
        &self.array_limits
    }

    /// What the array is configured with.
    ///
    /// # Errors
    /// None for this design; those of its parts are passed on.
    pub fn design(&self) -> Result<&Design, CompileError> {
        if let Some(design) = self.design.get() {
            return Ok(design);
        }
        let failed = |error: GemmError| CompileError::Array { reason: error.to_string() };
        let design = Design::new().map_err(failed)?;
        Ok(self.design.get_or_init(|| design))
    }

    /// Weights in the array's form.
    pub fn arrays(&self) -> &[ArrayMatrix] {
        &self.arrays
    }

    pub fn array_at(&self, id: ArrayId) -> &ArrayMatrix {
        &self.arrays[id.0]
    }

    /// Whether a product with the weights `values`, stacked by rows, goes to the array.
    pub fn goes_to_array(&self, graph: &Graph, values: &[ValueId]) -> bool {
        let rows = values.iter().filter_map(|&v| graph.ty(v).size(0)).sum();
        let columns = values.first().and_then(|&v| graph.ty(v).width()).unwrap_or(0);
        self.placement == Placement::Array && fits(rows, columns)
    }

    /// The array's matrix made of the weights `values`, stacked by rows; they share the width.
    pub fn array(&mut self, graph: &Graph, values: &[ValueId]) -> Result<ArrayId, CompileError> {
        self.linked_array(graph, values, Link::None)
    }

    /// The same, of a gate or of what reads one.
    pub fn linked_array(
        &mut self,
        graph: &Graph,
        values: &[ValueId],
        link: Link,
    ) -> Result<ArrayId, CompileError> {
        let Source { tensors, tensor_rows, formats, columns } = self.stacked(graph, values)?;
        if let Some(found) = self.arrays.iter().position(|m| m.tensors == tensors) {
            return Ok(ArrayId(found));
        }
        let first = self.arrays.last().map_or(0, |matrix| matrix.first + matrix.blocks.len());
        let id = ArrayId(self.arrays.len());
        let stack = ArrayMatrix::new((tensors, tensor_rows, formats), columns, first).linked(link);
        let mut matrix = stack.cut(&self.array_limits, self.design()?)?;
        matrix.place_at(self.reserve(matrix.packed_bytes(), Item::Array(id)));
        self.arrays.push(matrix);
        Ok(id)
    }

    /// Whether gate and up, of the weights `[gate, up]`, and the product with `down` that reads what the
    /// gate's function makes of them are one submission to the array. Notes why not.
    pub fn gates(
        &mut self,
        graph: &Graph,
        function: Function,
        [gate, down]: [ValueId; 2],
    ) -> Option<Gated> {
        let rows = |value: ValueId| graph.ty(value).size(0);
        let columns = graph.ty(gate).width()?;
        let sizes = [rows(down)?, rows(gate)?, columns];
        let chosen = array::choose(function, sizes, &self.array_limits, self.design().ok()?);
        chosen.map_err(|reason| self.apart.insert(reason)).ok()
    }

    /// Notes that a gate is not made on the array, where no size is the reason.
    pub fn notice_apart(&mut self) {
        if self.apart.is_empty() {
            self.apart.insert("it does not stand between two products of the array alone".into());
        }
    }

    /// Why gates are not made on the array, each reason once.
    pub fn apart(&self) -> &BTreeSet<String> {
        &self.apart
    }

    /// Whether products go to the array.
    pub fn has_array(&self) -> bool {
        self.placement == Placement::Array
    }

    pub fn matrices(&self) -> &[Matrix] {
        &self.matrices
    }

    /// Length of the weight segment.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn matrix_at(&self, id: WeightId) -> &Matrix {
        &self.matrices[id.0]
    }

    pub fn vector_at(&self, id: VectorId) -> &Vector {
        &self.vectors[id.0]
    }

    /// What products with the weight `value` read.
    pub fn activation_of(&self, graph: &Graph, value: ValueId) -> Activation {
        let ty = graph.ty(value);
        match (ty.elem, ty.width()) {
            (Elem::Block(format), Some(columns)) => storage_class(format, columns).activation(),
            _ => Activation::F32,
        }
    }

    /// The matrix made of the weights `values`, stacked by rows; they share format and width.
    pub fn matrix(&mut self, graph: &Graph, values: &[ValueId]) -> Result<WeightId, CompileError> {
        let Source { tensors, tensor_rows, formats, columns } = self.stacked(graph, values)?;
        let format = formats[0];
        if let Some(found) = self.matrices.iter().position(|m| m.tensors == tensors) {
            return Ok(WeightId(found));
        }
        let class = self.class_of_tensors(&tensors, format, columns)?;
        let rows = tensor_rows.iter().sum();
        let bytes = onebit_cpu::packed_bytes(class, rows, columns) as u64;
        let id = WeightId(self.matrices.len());
        let offset = self.reserve(bytes, Item::Matrix(id));
        self.matrices.push(Matrix {
            tensors,
            tensor_rows,
            format,
            class,
            rows,
            columns,
            offset,
            bytes,
        });
        Ok(id)
    }

    /// The narrowest class that holds these tensors, blocks without two-level scales included.
    fn class_of_tensors(
        &self,
        tensors: &[String],
        format: Format,
        columns: usize,
    ) -> Result<StorageClass, CompileError> {
        let class = storage_class(format, columns);
        if format != Format::Iq1S || class != StorageClass::Q2K {
            return Ok(class);
        }
        for name in tensors {
            if !format.has_super_scales(self.fetch(name)?.1) {
                return Ok(StorageClass::I8G16M);
            }
        }
        Ok(class)
    }

    fn stacked(&self, graph: &Graph, values: &[ValueId]) -> Result<Source, CompileError> {
        let tensors: Vec<String> = values.iter().map(|&v| weight_name(graph, v)).collect();
        let formats = tensors.iter().map(|name| Ok(self.fetch(name)?.0));
        Ok(Source {
            formats: formats.collect::<Result<_, CompileError>>()?,
            tensor_rows: values.iter().map(|&v| graph.ty(v).size(0).unwrap_or(0)).collect(),
            columns: graph.ty(values[0]).width().unwrap_or(0),
            tensors,
        })
    }

    /// The weight `value` as a vector of floats.
    pub fn vector(&mut self, graph: &Graph, value: ValueId) -> Result<VectorId, CompileError> {
        let tensor = weight_name(graph, value);
        if let Some(found) = self.vectors.iter().position(|v| v.tensor == tensor) {
            return Ok(VectorId(found));
        }
        let (format, _) = self.fetch(&tensor)?;
        let len = graph.ty(value).width().unwrap_or(0);
        let id = VectorId(self.vectors.len());
        let offset = self.reserve(len as u64 * 4, Item::Vector(id));
        self.vectors.push(Vector { tensor, format, len, offset });
        Ok(id)
    }

    /// The bytes of row `row` of a matrix, as they stand in the model file.
    pub fn row(&self, matrix: &Matrix, row: usize) -> Result<&'m [u8], CompileError> {
        let mut first = 0;
        for (name, &rows) in matrix.tensors.iter().zip(&matrix.tensor_rows) {
            if row < first + rows {
                let bytes = matrix.format.row_bytes(matrix.columns).unwrap_or(0);
                let all = self.fetch(name)?.1;
                let row = row - first;
                return all.get(row * bytes..(row + 1) * bytes).ok_or_else(|| {
                    let reason = format!("{} bytes end before row {row}", all.len());
                    CompileError::Tensor { name: name.clone(), reason }
                });
            }
            first += rows;
        }
        let reason = format!("has no row {row}");
        Err(CompileError::Tensor { name: matrix.tensors.join(" + "), reason })
    }

    /// The weight `value`, decoded.
    pub fn floats(&self, graph: &Graph, value: ValueId) -> Result<Vec<f32>, CompileError> {
        let len = graph.ty(value).width().unwrap_or(0);
        self.decode(&weight_name(graph, value), len)
    }

    /// Packs everything in file order; `sink` takes consecutive bytes of the weight segment.
    /// Returns the rounding of each product of the array.
    pub fn pack(
        &self,
        mut sink: impl FnMut(&[u8]) -> Result<(), CompileError>,
    ) -> Result<Vec<Rounding>, CompileError> {
        let mut written = 0;
        let mut roundings = Vec::new();
        for item in &self.order {
            let (offset, tensors) = match *item {
                Item::Matrix(id) => (self.matrix_at(id).offset, &self.matrix_at(id).tensors[..]),
                Item::Array(id) => (self.array_at(id).offset(), &self.array_at(id).tensors[..]),
                Item::Vector(id) => {
                    let vector = self.vector_at(id);
                    (vector.offset, std::slice::from_ref(&vector.tensor))
                }
            };
            let gap = usize::try_from(offset - written).expect("padding is below the alignment");
            sink(&[0; BUFFER_ALIGN][..gap])?;
            written = offset
                + match *item {
                    Item::Matrix(id) => self.pack_matrix(self.matrix_at(id), &mut sink)?,
                    Item::Array(id) => {
                        let matrix = self.array_at(id);
                        let rows = self.source_rows(&matrix.stack(), matrix.columns)?;
                        matrix.pack(&rows, &mut roundings, &mut sink)?;
                        matrix.packed_bytes()
                    }
                    Item::Vector(id) => {
                        let vector = self.vector_at(id);
                        let floats = self.decode(&vector.tensor, vector.len)?;
                        sink(bytemuck::cast_slice(&floats))?;
                        vector.len as u64 * 4
                    }
                };
            tensors.iter().for_each(|name| self.source.release(name));
        }
        Ok(roundings)
    }

    fn reserve(&mut self, bytes: u64, item: Item) -> u64 {
        let offset = self.bytes.next_multiple_of(BUFFER_ALIGN as u64);
        self.bytes = offset + bytes;
        self.order.push(item);
        offset
    }

    fn fetch(&self, name: &str) -> Result<(Format, &'m [u8]), CompileError> {
        let missing = || CompileError::MissingTensor { name: name.to_owned() };
        self.source.tensor(name).ok_or_else(missing)
    }

    fn decode(&self, name: &str, len: usize) -> Result<Vec<f32>, CompileError> {
        let (format, bytes) = self.fetch(name)?;
        let mut floats = vec![0.0; len];
        format.decode(bytes, &mut floats).map_err(|error| CompileError::Tensor {
            name: name.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(floats)
    }

    /// Packs a matrix in slabs of tiles, each slab in parallel. Returns the bytes written.
    fn pack_matrix(
        &self,
        matrix: &Matrix,
        sink: &mut impl FnMut(&[u8]) -> Result<(), CompileError>,
    ) -> Result<u64, CompileError> {
        const SLAB_BYTES: usize = 4 << 20;
        let parts = matrix.tensors.iter().zip(&matrix.tensor_rows);
        let stack: Vec<_> = parts.map(|(name, &rows)| (&name[..], rows, matrix.format)).collect();
        let rows = self.source_rows(&stack, matrix.columns)?;
        let rows: Vec<&[u8]> = rows.into_iter().map(|(_, row)| row).collect();
        let tile_bytes = onebit_cpu::tile_bytes(matrix.class, matrix.columns);
        let tiles_per_slab = (SLAB_BYTES / tile_bytes).max(1);
        let tiles: Vec<&[&[u8]]> = rows.chunks(TILE_ROWS).collect();
        let mut slab = vec![0; tiles_per_slab.min(tiles.len()) * tile_bytes];
        for group in tiles.chunks(tiles_per_slab) {
            let out = &mut slab[..group.len() * tile_bytes];
            out.par_chunks_exact_mut(tile_bytes)
                .zip(group.par_iter())
                .try_for_each_init(TileScratch::default, |scratch, (out, rows)| {
                    scratch.pack(matrix, rows, out)
                })?;
            sink(out)?;
        }
        Ok(matrix.bytes)
    }

    /// Format and bytes of every source row, in packed order, of tensors with so many rows each.
    fn source_rows(
        &self,
        stack: &[(&str, usize, Format)],
        columns: usize,
    ) -> Result<Vec<(Format, &'m [u8])>, CompileError> {
        let mut rows = Vec::with_capacity(stack.iter().map(|(_, rows, _)| rows).sum());
        for &(name, count, format) in stack {
            let row_bytes = format.row_bytes(columns).unwrap_or(0);
            let (_, bytes) = self.fetch(name)?;
            if row_bytes == 0 || bytes.len() != row_bytes * count {
                let reason = format!("{} bytes are not {count} rows of {row_bytes}", bytes.len());
                return Err(CompileError::Tensor { name: name.into(), reason });
            }
            rows.extend(bytes.chunks_exact(row_bytes).map(|row| (format, row)));
        }
        Ok(rows)
    }
}

fn weight_name(graph: &Graph, value: ValueId) -> String {
    match graph.op(value) {
        Op::Weight(name) => name.clone(),
        op => unreachable!("{} stands where type inference allows weights only", op.name()),
    }
}

/// Codes and scales of the rows of one tile, reused from tile to tile.
#[derive(Default)]
struct TileScratch {
    rows: Vec<RowScratch>,
}

#[derive(Default)]
struct RowScratch {
    codes: Vec<i8>,
    /// Per 16 elements.
    scale: Vec<f32>,
    min: Vec<f32>,
    /// Per 32 elements.
    d: Vec<f16>,
    m: Vec<f16>,
    /// Per 32 elements: the scale is `2^(e - 128)`.
    e: Vec<u8>,
    /// Per 128 elements.
    span: Vec<f16>,
    /// Per 256 elements.
    super_d: Vec<f16>,
    super_dmin: Vec<f16>,
    /// Per 16 or 32 elements, as the class asks.
    sub: Vec<i8>,
    sub_min: Vec<u8>,
    floats: Vec<f32>,
}

impl TileScratch {
    fn pack(
        &mut self,
        matrix: &Matrix,
        rows: &[&[u8]],
        out: &mut [u8],
    ) -> Result<(), CompileError> {
        self.rows.resize_with(rows.len().max(self.rows.len()), RowScratch::default);
        let tensor_error =
            |reason: String| CompileError::Tensor { name: matrix.tensors.join(" + "), reason };
        let mut sources = Vec::with_capacity(TILE_ROWS);
        for (scratch, bytes) in self.rows.iter_mut().zip(rows) {
            let row = scratch.read(matrix, bytes).map_err(tensor_error)?;
            sources.push(row);
        }
        onebit_cpu::pack_tile(matrix.class, matrix.columns, &sources, out)
            .map_err(|error| tensor_error(error.to_string()))
    }
}

impl RowScratch {
    /// Decodes one row into the form its class stores.
    fn read(&mut self, matrix: &Matrix, bytes: &[u8]) -> Result<Row<'_>, String> {
        use StorageClass as C;
        if matches!(matrix.class, C::F32 | C::F16 | C::BF16) {
            self.floats.resize(matrix.columns, 0.0);
            matrix.format.decode(bytes, &mut self.floats).map_err(|error| error.to_string())?;
            return Ok(Row::Float(&self.floats));
        }
        self.unpack(matrix, bytes)?;
        let scales = match matrix.class {
            C::N4D | C::Q4D | C::Q5D | C::Q8D => Scales::Block32 { d: &self.d, m: None },
            C::Q4DM | C::Q5DM => Scales::Block32 { d: &self.d, m: Some(&self.m) },
            C::N4K | C::Q2K | C::Q3K | C::Q4K | C::Q5K | C::Q6K => Scales::Super {
                d: &self.super_d,
                dmin: &self.super_dmin,
                sub: &self.sub,
                sub_min: &self.sub_min,
            },
            C::B1D | C::T2D => Scales::Span128 { d: &self.span },
            C::M4E => Scales::Exponent32 { e: &self.e },
            C::I8G16M => Scales::Group16 { scale: &self.scale, min: Some(&self.min) },
            _ => Scales::Group16 { scale: &self.scale, min: None },
        };
        Ok(Row::Codes { codes: &self.codes, scales })
    }

    fn unpack(&mut self, matrix: &Matrix, bytes: &[u8]) -> Result<(), String> {
        self.clear();
        let format = matrix.format;
        let groups_per_sub = match matrix.class {
            StorageClass::Q2K | StorageClass::Q3K | StorageClass::Q6K => 1,
            _ => 2,
        };
        let mut block = Unpacked::new();
        for source in bytes.chunks_exact(format.block_bytes()) {
            format.unpack(source, &mut block).map_err(|error| error.to_string())?;
            let len = format.block_len();
            let groups = len / 16;
            self.codes.extend_from_slice(&block.q[..len]);
            self.scale.extend_from_slice(&block.scale[..groups]);
            self.min.extend_from_slice(&block.min[..groups]);
            for group in (0..groups).step_by(BLOCK / 16) {
                self.d.push(f16::from_f32(block.scale[group]));
                self.m.push(f16::from_f32(block.min[group]));
                self.e.push(exponent(block.scale[group]));
            }
            for group in (0..groups).step_by(SPAN / 16) {
                self.span.push(f16::from_f32(block.scale[group]));
            }
            if let Some(scales) = &block.super_scales {
                self.super_d.push(scales.d);
                self.super_dmin.push(scales.dmin);
                self.sub.extend(scales.sub[..groups].iter().step_by(groups_per_sub));
                self.sub_min.extend(scales.sub_min[..groups].iter().step_by(groups_per_sub));
            }
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.codes.clear();
        self.scale.clear();
        self.min.clear();
        self.d.clear();
        self.m.clear();
        self.e.clear();
        self.span.clear();
        self.super_d.clear();
        self.super_dmin.clear();
        self.sub.clear();
        self.sub_min.clear();
    }
}

/// The e of `scale = 2^(e - 128)`; means nothing for other scales.
fn exponent(scale: f32) -> u8 {
    match scale.to_bits() {
        // Subnormal: 2^-128 and 2^-127.
        0x0020_0000 => 0,
        0x0040_0000 => 1,
        bits => ((bits >> 23) + 1) as u8,
    }
}
