#include "tools/cli/table.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_replace.h"
#include "storage/base/check.h"

namespace twofold::cli {
namespace {

// Characters as a terminal shows them, near enough: UTF-8 sequences count one.
size_t Width(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

void PrintLine(std::ostream& out, const std::vector<std::string>& cells,
               const std::vector<size_t>& widths, const std::vector<Align>& aligns) {
  std::string line;
  for (size_t i = 0; i < cells.size(); ++i) {
    const std::string padding(widths[i] - Width(cells[i]), ' ');
    if (i > 0) line += "  ";
    line += aligns[i] == Align::kRight ? padding + cells[i] : cells[i] + padding;
  }
  line.erase(line.find_last_not_of(' ') + 1);
  out << line << '\n';
}

}  // namespace

void Table::Add(std::vector<std::string> cells) {
  TF_CHECK(cells.size() == columns_.size());
  rows_.push_back(std::move(cells));
}

void Table::Print(std::ostream& out) const {
  std::vector<std::string> titles;
  std::vector<size_t> widths;
  std::vector<Align> aligns;
  for (const Column& column : columns_) {
    titles.push_back(column.title);
    widths.push_back(Width(column.title));
    aligns.push_back(column.align);
  }
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], Width(row[i]));
  }
  PrintLine(out, titles, widths, aligns);
  for (const auto& row : rows_) PrintLine(out, row, widths, aligns);
}

void PrintFields(std::ostream& out,
                 const std::vector<std::pair<std::string, std::string>>& fields) {
  size_t width = 0;
  for (const auto& [name, value] : fields) width = std::max(width, Width(name));
  for (const auto& [name, value] : fields) {
    const std::string indent = "\n" + std::string(width + 2, ' ');
    out << name << std::string(width + 2 - Width(name), ' ')
        << absl::StrReplaceAll(value, {{"\n", indent}}) << '\n';
  }
}

}  // namespace twofold::cli
