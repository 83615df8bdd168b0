mod text;

fn main() {}
