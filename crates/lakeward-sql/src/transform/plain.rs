//! Arrays as the rest of the product knows them: no views, no large offsets,
//! no dictionaries.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Field, Fields};
use arrow::error::ArrowError;

/// The plain form of a type.
pub(super) fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::RunEndEncoded(_, values) => plain_type(values.data_type()),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => DataType::List(Arc::new(plain_field(item))),
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|field| plain_field(field)).collect::<Fields>())
        }
        other => other.clone(),
    }
}

fn plain_field(field: &Field) -> Field {
    field.clone().with_data_type(plain_type(field.data_type())).with_nullable(true)
}

/// An array in its plain form.
pub(super) fn plain(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let data_type = plain_type(array.data_type());
    if *array.data_type() == data_type {
        return Ok(Arc::clone(array));
    }
    arrow::compute::cast(array, &data_type)
}
