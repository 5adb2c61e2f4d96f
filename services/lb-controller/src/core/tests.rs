mod arbitrary;
mod golden;
