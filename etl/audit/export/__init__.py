"""Lines of the folder as a table: a CSV or Parquet file, or the answer of a route.

columns   which columns a table has: the keys of its lines, with their types
rows      lines as columns, in blocks
table     the lines of some days
csv_text  a table as CSV
parquet   a table as Parquet
machine   one machine's day of averages as CSV
target    the file that is written aside and renamed
"""
