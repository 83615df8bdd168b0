mod provider;

fn main() {}
