# The table of vectors in R alone: the genes nearest to STAT1.
vectors <- as.matrix(read.csv("genes.csv", row.names = 1, check.names = FALSE))
unit <- vectors / sqrt(rowSums(vectors^2))
cosine <- sort((unit %*% unit["STAT1", ])[, 1], decreasing = TRUE)
cat(sprintf("%d genes; nearest to STAT1: %s\n", nrow(vectors), paste(names(cosine)[2:4], collapse = ", ")))
