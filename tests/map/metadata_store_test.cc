// The contract of MetadataStore, over both of its implementations.

#include "storage/map/metadata_store.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "storage/base/limits.h"
#include "storage/base/prng.h"
#include "storage/map/key_codec.h"
#include "storage/map/live_bitmap.h"
#include "storage/map/merge.h"
#include "storage/map/run_list.h"
#include "tests/map/store_harness.h"
#include "tests/sim/sim_metadata_store.h"

namespace twofold {
namespace {

enum class Kind { kSim, kRocks };

class MetadataStoreTest : public testing::TestWithParam<Kind> {
 protected:
  MetadataStoreTest() { Open(RocksStore::Mode::kCreate); }
  ~MetadataStoreTest() override { Close(); }

  void Open(RocksStore::Mode mode) {
    if (GetParam() == Kind::kSim) {
      store_ = disk_.Open();
    } else {
      auto opened = harness_.OpenRocks(folder_.Sub("map"), mode);
      ASSERT_TRUE(opened.ok()) << opened.status();
      store_ = *std::move(opened);
    }
  }
  void Close() {
    harness_.Run(store_->Close());
    store_.reset();
  }
  void Reopen() {
    Close();
    Open(RocksStore::Mode::kOpen);
  }

  void Commit(MetadataBatch batch) {
    const absl::Status status = harness_.Run(store_->Commit(std::move(batch)));
    ASSERT_TRUE(status.ok()) << status;
  }
  absl::StatusOr<std::optional<std::string>> Get(const std::string& key) {
    return harness_.Run(store_->Get(key));
  }
  // The value, or "(none)".
  std::string Value(const std::string& key) {
    const auto found = Get(key);
    EXPECT_TRUE(found.ok()) << found.status();
    return found.ok() ? found->value_or("(none)") : "(error)";
  }
  absl::StatusOr<std::optional<KeyValue>> Seek(const std::string& from, const std::string& prefix) {
    return harness_.Run(store_->Seek(from, prefix));
  }
  absl::StatusOr<std::vector<KeyValue>> Scan(const std::string& from, const std::string& to,
                                             size_t limit = 1'000'000) {
    return harness_.Run(store_->Scan(from, to, limit));
  }

  TempFolder folder_{/*in_memory=*/true};
  StoreHarness harness_;
  sim::SimMetadataDisk disk_{7, {.max_read_delay_ns = 20'000, .max_commit_delay_ns = 20'000}};
  std::unique_ptr<MetadataStore> store_;
};

INSTANTIATE_TEST_SUITE_P(Both, MetadataStoreTest, testing::Values(Kind::kSim, Kind::kRocks),
                         [](const testing::TestParamInfo<Kind>& kind) {
                           return kind.param == Kind::kSim ? "Sim" : "Rocks";
                         });

std::string ChunkKeyOf(uint64_t timeline, uint64_t chunk, uint64_t seq) {
  return EncodeChunkKey({TimelineId(timeline), chunk, {Generation(1), Seq(seq)}});
}

// One zero run of one block: the smallest packed run.
std::string OneRun(uint64_t chunk, uint64_t block, uint64_t seq) {
  RunList list;
  list.Insert({.range = {BlockIndex(chunk * kChunkBlocks + block), BlockCount(1)},
               .kind = RunKind::kZero,
               .position = {Generation(1), Seq(seq)},
               .address = {SegmentNumber(1), 0},
               .block_crcs = {}});
  return list.Encode(chunk);
}

std::string OneChange(uint32_t block, bool live) {
  return LiveDelta({LiveChange{{SegmentNumber(1), block}, 1, live}}).Encode();
}

TEST_P(MetadataStoreTest, GivesBackWhatWasCommitted) {
  Commit({Put(MetaKey("a"), "1"), Put(MetaKey("b"), std::string("\0\xff", 2))});
  EXPECT_EQ(Value(MetaKey("a")), "1");
  EXPECT_EQ(Value(MetaKey("b")), std::string("\0\xff", 2));
  EXPECT_EQ(Value(MetaKey("c")), "(none)");
  Reopen();
  EXPECT_EQ(Value(MetaKey("a")), "1");
  EXPECT_EQ(Value(MetaKey("c")), "(none)");
}

TEST_P(MetadataStoreTest, KeepsEmptyValuesApartFromAbsentOnes) {
  const std::string key = EncodeVersionKey({TimelineId(1), 2, {Generation(1), Seq(3)}});
  Commit({Put(key, "")});
  Reopen();
  EXPECT_EQ(Value(key), "");
  Commit({Delete(key)});
  EXPECT_EQ(Value(key), "(none)");
}

TEST_P(MetadataStoreTest, AViewShowsWhatWasThereWhenItWasTaken) {
  Commit({Put("Ma", "1"), Put("Mb", "2")});
  std::unique_ptr<MetadataView> view = store_->View();
  Commit({Put("Ma", "new"), Delete("Mb"), Put("Mc", "3")});
  Commit({DeleteRange("Ma", "Mc")});
  std::vector<KeyValue> seen;
  std::optional<std::string> gone;
  std::optional<std::string> later;
  const auto look = [&]() -> absl::Status {
    seen = *view->ScanBlocking("M", "N", 10);
    gone = *view->GetBlocking("Mb");
    later = *view->GetBlocking("Mc");
    return view->ScanBlocking("M", "N", 1).status();
  };
  EXPECT_TRUE(harness_.Run(view->Run(look)).ok());
  EXPECT_EQ(seen, (std::vector<KeyValue>{{"Ma", "1"}, {"Mb", "2"}}));
  EXPECT_EQ(gone, "2");
  EXPECT_EQ(later, std::nullopt);
  EXPECT_EQ(Value("Mb"), "(none)");
  view.reset();
  Reopen();
  EXPECT_EQ(Value("Mc"), "3");
}

TEST_P(MetadataStoreTest, TakesAnEmptyBatch) {
  Commit({});
  Commit({Put(MetaKey("a"), "1")});
  Commit({});
  EXPECT_EQ(Value(MetaKey("a")), "1");
}

TEST_P(MetadataStoreTest, WritesOfABatchTakeEffectInTheirOrder) {
  Commit({Put("Ma", "1"), Delete("Ma"), Put("Ma", "2"),               //
          Put("Mb", "1"), DeleteRange("Ma0", "Mc"), Put("Mbb", "3"),  //
          Put("Md", "4"), Put("Md", "5")});
  EXPECT_EQ(Value("Ma"), "2");
  EXPECT_EQ(Value("Mb"), "(none)");
  EXPECT_EQ(Value("Mbb"), "3");
  EXPECT_EQ(Value("Md"), "5");
}

TEST_P(MetadataStoreTest, DeleteRangeTakesItsBeginningAndLeavesItsEnd) {
  Commit({Put("Ma", "1"), Put("Mb", "2"), Put("Mbb", "3"), Put("Mc", "4")});
  Commit({DeleteRange("Mb", "Mc")});
  Reopen();
  const auto left = Scan("M", "N");
  ASSERT_TRUE(left.ok()) << left.status();
  EXPECT_EQ(*left, (std::vector<KeyValue>{{"Ma", "1"}, {"Mc", "4"}}));
}

TEST_P(MetadataStoreTest, DeletesAWholeTimelineByRangeM6) {
  for (uint64_t timeline = 1; timeline <= 3; ++timeline) {
    for (uint64_t chunk = 0; chunk < 10; ++chunk) {
      Commit({Put(ChunkKeyOf(timeline, chunk, 5), OneRun(chunk, 0, 5))});
    }
  }
  const std::string prefix = TimelinePrefix(Table::kChunk, TimelineId(2));
  Commit({DeleteRange(prefix, PrefixEnd(prefix))});
  for (uint64_t chunk = 0; chunk < 10; ++chunk) {
    EXPECT_NE(Value(ChunkKeyOf(1, chunk, 5)), "(none)");
    EXPECT_EQ(Value(ChunkKeyOf(2, chunk, 5)), "(none)");
    const auto found = Seek(ChunkPrefix(TimelineId(2), chunk), ChunkPrefix(TimelineId(2), chunk));
    ASSERT_TRUE(found.ok());
    EXPECT_FALSE(found->has_value());
    EXPECT_NE(Value(ChunkKeyOf(3, chunk, 5)), "(none)");
  }
}

TEST_P(MetadataStoreTest, MergesRunsWithAndWithoutABaseM2) {
  const std::string with_base = ChunkKeyOf(1, 4, 10);
  const std::string without = ChunkKeyOf(1, 4, 20);
  Commit({Put(with_base, OneRun(4, 0, 11))});
  Commit({Merge(with_base, OneRun(4, 1, 12)), Merge(without, OneRun(4, 5, 21))});
  Commit({Merge(with_base, OneRun(4, 0, 3)), Merge(with_base, OneRun(4, 1, 15)),
          Merge(without, OneRun(4, 6, 22))});
  const auto check = [&] {
    EXPECT_EQ(Value(with_base), MergeFull(with_base, OneRun(4, 0, 11), {OneRun(4, 1, 15)}).value());
    EXPECT_EQ(Value(without), MergeFull(without, OneRun(4, 5, 21), {OneRun(4, 6, 22)}).value());
  };
  check();
  Reopen();
  check();
}

TEST_P(MetadataStoreTest, MergesLiveChangesInTheirOrderM21) {
  const std::string key = EncodeSegmentKey(Table::kLive, SegmentNumber(1));
  Commit({Merge(key, OneChange(3, true)), Merge(key, OneChange(4, true))});
  Commit({Merge(key, OneChange(3, false))});
  Reopen();
  Commit({Merge(key, OneChange(9, true)), Merge(key, OneChange(9, false)),
          Merge(key, OneChange(9, true))});
  LiveBitmap expected;
  expected.Set(4, 1, true);
  expected.Set(9, 1, true);
  EXPECT_EQ(Value(key), expected.Encode());
  Commit({Delete(key), Merge(key, OneChange(1, true))});
  EXPECT_EQ(LiveBitmap::Decode(Value(key))->CountLive(), 1u) << "what was deleted is no base";
}

TEST_P(MetadataStoreTest, SeekFindsTheNewestVersionThatIsOldEnoughM5) {
  MetadataBatch batch;
  for (const uint64_t chunk : {7, 8, 10}) {
    for (const uint64_t seq : {100, 200, 300}) {
      batch.push_back(Put(ChunkKeyOf(1, chunk, seq), OneRun(chunk, 0, seq)));
    }
  }
  Commit(std::move(batch));
  Commit({Merge(ChunkKeyOf(1, 8, 200), OneRun(8, 1, 250))});
  Reopen();
  const auto seek = [&](uint64_t chunk, uint64_t seq) -> std::string {
    const auto found = Seek(ChunkKeyOf(1, chunk, seq), ChunkPrefix(TimelineId(1), chunk));
    EXPECT_TRUE(found.ok()) << found.status();
    return found.ok() && found->has_value() ? (*found)->first : "(none)";
  };
  EXPECT_EQ(seek(8, 1000), ChunkKeyOf(1, 8, 300));
  EXPECT_EQ(seek(8, 300), ChunkKeyOf(1, 8, 300));
  EXPECT_EQ(seek(8, 299), ChunkKeyOf(1, 8, 200));
  EXPECT_EQ(seek(8, 100), ChunkKeyOf(1, 8, 100));
  EXPECT_EQ(seek(8, 99), "(none)") << "the next chunk's versions are not this one's";
  EXPECT_EQ(seek(9, 1000), "(none)");
  EXPECT_EQ(seek(10, 150), ChunkKeyOf(1, 10, 100));
  EXPECT_EQ(seek(11, 1000), "(none)");
  const auto merged = Seek(ChunkKeyOf(1, 8, 220), ChunkPrefix(TimelineId(1), 8));
  EXPECT_EQ((*merged)->second,
            MergeFull(ChunkKeyOf(1, 8, 200), OneRun(8, 0, 200), {OneRun(8, 1, 250)}).value());
}

TEST_P(MetadataStoreTest, SeekKeepsToThePrefixInEveryTable) {
  const std::string version = EncodeVersionKey({TimelineId(2), 5, {Generation(1), Seq(9)}});
  Commit({Put(version, ""), Put(ChunkKeyOf(2, 5, 9), OneRun(5, 0, 9)), Put(EncodeJobKey(3), "job"),
          Put(EncodeTombstoneKey({TimelineId(2), {}}), "z")});
  const auto first = [&](const std::string& prefix) -> std::string {
    const auto found = Seek(prefix, prefix);
    EXPECT_TRUE(found.ok()) << found.status();
    return found.ok() && found->has_value() ? (*found)->first : "(none)";
  };
  EXPECT_EQ(first(TimelinePrefix(Table::kVersion, TimelineId(2))), version);
  EXPECT_EQ(first(TimelinePrefix(Table::kVersion, TimelineId(1))), "(none)");
  EXPECT_EQ(first(TimelinePrefix(Table::kChunk, TimelineId(2))), ChunkKeyOf(2, 5, 9));
  EXPECT_EQ(first(TimelinePrefix(Table::kChunk, TimelineId(1))), "(none)");
  EXPECT_EQ(first(TablePrefix(Table::kJob)), EncodeJobKey(3));
  EXPECT_EQ(first(TablePrefix(Table::kDead)), "(none)");
  EXPECT_EQ(first(ChunkPrefix(TimelineId(2), 5)), ChunkKeyOf(2, 5, 9));
  EXPECT_EQ(first(ChunkKeyOf(2, 5, 9)), ChunkKeyOf(2, 5, 9)) << "a prefix may be a whole key";
}

TEST_P(MetadataStoreTest, ScanCrossesChunksAndStopsAtItsBounds) {
  // Many commits, so that the keys lie in many tables.
  for (uint64_t chunk = 0; chunk < 30; ++chunk) {
    Commit({Put(ChunkKeyOf(1, chunk, 1), OneRun(chunk, 0, 1)),
            Put(EncodeVersionKey({TimelineId(1), chunk, {Generation(1), Seq(1)}}), "")});
  }
  Reopen();
  const auto some = Scan(ChunkPrefix(TimelineId(1), 5), ChunkPrefix(TimelineId(1), 20));
  ASSERT_TRUE(some.ok()) << some.status();
  ASSERT_EQ(some->size(), 15u);
  for (uint64_t i = 0; i < 15; ++i) EXPECT_EQ((*some)[i].first, ChunkKeyOf(1, 5 + i, 1));
  EXPECT_EQ(Scan(ChunkPrefix(TimelineId(1), 5), ChunkPrefix(TimelineId(1), 20), 4)->size(), 4u);
  EXPECT_EQ(Scan(TablePrefix(Table::kVersion), PrefixEnd(TablePrefix(Table::kVersion)))->size(),
            30u);
  EXPECT_TRUE(Scan("M", "N")->empty());
  EXPECT_TRUE(Scan(ChunkKeyOf(1, 5, 1), ChunkKeyOf(1, 5, 1))->empty());
  EXPECT_TRUE(Scan(ChunkKeyOf(1, 5, 1), ChunkKeyOf(1, 6, 1), 0)->empty());
}

TEST_P(MetadataStoreTest, ADamagedValueIsNeverTakenForAnAbsentOneM12) {
  const std::string damaged = ChunkKeyOf(1, 4, 10);
  Commit({Put(damaged, "this is no packed run"), Put(ChunkKeyOf(1, 5, 10), OneRun(5, 0, 10))});
  Commit({Merge(damaged, OneRun(4, 0, 11))});
  EXPECT_EQ(Get(damaged).status().code(), absl::StatusCode::kDataLoss) << Get(damaged).status();
  EXPECT_EQ(Seek(damaged, ChunkPrefix(TimelineId(1), 4)).status().code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(Scan("C", "D").status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Value(ChunkKeyOf(1, 5, 10)), OneRun(5, 0, 10)) << "the others can be read";
}

TEST_P(MetadataStoreTest, GrowsWithWhatIsInIt) {
  Commit({Put("Ma", "1")});
  const uint64_t before = store_->SizeBytes();
  Prng random(1);
  std::string noise(1 << 20, '\0');
  for (char& c : noise) c = static_cast<char>(random.Next());
  Commit({Put("Mb", noise)});
  EXPECT_GE(store_->SizeBytes(), before + noise.size());
  EXPECT_LT(store_->SizeBytes(), before + 2 * noise.size());
}

TEST_P(MetadataStoreTest, CountsWhatItWritesAlsoWhatReplacesSomething) {
  const uint64_t before = store_->WrittenBytes();
  Prng random(1);
  std::string noise(1 << 20, '\0');
  for (char& c : noise) c = static_cast<char>(random.Next());
  Commit({Put("Mb", noise)});
  Commit({Put("Mb", noise)});
  EXPECT_GE(store_->WrittenBytes(), before + 2 * noise.size());
  EXPECT_LT(store_->WrittenBytes(), before + 4 * noise.size());
}

// Random batches over few keys, against a plain map.
TEST_P(MetadataStoreTest, AgreesWithAModelThroughManyCommitsAndReopenings) {
  Prng random(3);
  std::map<std::string, std::string> model;
  const auto random_key = [&random]() -> std::string {
    switch (random.Uniform(3)) {
      case 0:
        return ChunkKeyOf(1 + random.Uniform(2), random.Uniform(4), random.Uniform(3));
      case 1:
        return EncodeSegmentKey(Table::kLive, SegmentNumber(random.Uniform(4)));
      default:
        return EncodeJobKey(random.Uniform(5));
    }
  };
  const auto random_value = [&random](const std::string& key, bool merge) -> std::string {
    if (key[0] == 'C') {
      return OneRun(DecodeChunkKey(key)->chunk, random.Uniform(kChunkBlocks), random.Next() >> 20);
    }
    if (key[0] != 'L') return std::to_string(random.Next());
    if (merge) return OneChange(static_cast<uint32_t>(random.Uniform(64)), random.Uniform(2) == 0);
    LiveBitmap bitmap;
    bitmap.Set(static_cast<uint32_t>(random.Uniform(64)), 3, true);
    return bitmap.Encode();
  };
  for (int round = 0; round < 150; ++round) {
    MetadataBatch batch;
    const uint64_t writes = random.Uniform(12);
    for (uint64_t i = 0; i < writes; ++i) {
      const std::string key = random_key();
      const uint64_t choice = random.Uniform(10);
      if (choice == 0) {
        const std::string other = random_key();
        if (key == other) continue;
        batch.push_back(DeleteRange(std::min(key, other), std::max(key, other)));
        model.erase(model.lower_bound(std::min(key, other)),
                    model.lower_bound(std::max(key, other)));
      } else if (choice == 1) {
        batch.push_back(Delete(key));
        model.erase(key);
      } else if (choice < 8 && HasMerge(key)) {
        batch.push_back(Merge(key, random_value(key, true)));
        std::optional<absl::string_view> base;
        if (model.contains(key)) base = model[key];
        model[key] = MergeFull(key, base, {batch.back().value}).value();
      } else {
        batch.push_back(Put(key, random_value(key, false)));
        model[key] = batch.back().value;
      }
    }
    Commit(std::move(batch));
    if (round % 25 == 24) Reopen();
    if (round % 5 != 0) continue;
    const auto all = Scan(std::string(1, '\0'), "\xff");
    ASSERT_TRUE(all.ok()) << all.status();
    ASSERT_EQ(*all, std::vector<KeyValue>(model.begin(), model.end())) << "round " << round;
    for (int i = 0; i < 5; ++i) {
      const std::string key = random_key();
      ASSERT_EQ(Value(key), model.contains(key) ? model[key] : "(none)");
    }
  }
}

}  // namespace
}  // namespace twofold
