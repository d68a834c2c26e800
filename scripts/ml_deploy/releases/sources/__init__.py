"""Where a release's objects come from: manifests, charts, kustomizations or inputs; with patches, variables and images."""
