#include "replication/pair/file_witness.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "replication/pair/membership.h"
#include "replication/pair/witness_codec.h"
#include "storage/runtime/executor.h"
#include "tests/runtime/test_poller.h"

namespace twofold {
namespace {

class FileWitnessTest : public testing::Test {
 protected:
  FileWitnessTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "witness_XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
  }
  ~FileWitnessTest() override {
    offload_.Stop();
    std::filesystem::remove_all(directory_);
  }

  absl::StatusOr<std::unique_ptr<FileWitness>> Open() {
    return executor_.Run(FileWitness::Open(directory_, &offload_));
  }
  std::unique_ptr<FileWitness> MustOpen() {
    absl::StatusOr<std::unique_ptr<FileWitness>> witness = Open();
    EXPECT_TRUE(witness.ok()) << witness.status();
    return *std::move(witness);
  }
  absl::StatusOr<Membership> Read(Witness& witness) { return executor_.Run(witness.Read()); }
  absl::Status Swap(Witness& witness, uint64_t generation, uint64_t version, Membership next) {
    return executor_.Run(witness.CompareAndSwap(Generation(generation), version, std::move(next)));
  }
  void Close(Witness& witness) { executor_.Run(witness.Close()); }
  void WriteFile(const std::string& name, const std::string& content) {
    std::ofstream(directory_ + "/" + name, std::ios::binary) << content;
  }

  static Membership First() {
    return FirstMembership(std::string(32, '0'), {std::string(32, 'a'), std::string(32, 'b')})
        .value();
  }

  TestPoller poller_;
  Executor executor_{poller_};
  Offload offload_{1};
  std::string directory_;
};

TEST_F(FileWitnessTest, KeepsWhatWasSwappedIn) {
  auto witness = MustOpen();
  EXPECT_TRUE(absl::IsNotFound(Read(*witness).status()));
  ASSERT_TRUE(Swap(*witness, 0, 0, First()).ok());
  EXPECT_EQ(Read(*witness).value(), First());
  const Membership next = WithInSync(First(), {std::string(32, 'a')}, 2, 1000);
  ASSERT_TRUE(Swap(*witness, 0, 1, next).ok());
  Close(*witness);

  auto reopened = MustOpen();
  EXPECT_EQ(Read(*reopened).value(), next);
  Close(*reopened);
}

TEST_F(FileWitnessTest, RefusesASwapThatExpectsSomethingElse) {  // R20
  auto witness = MustOpen();
  ASSERT_TRUE(Swap(*witness, 0, 0, First()).ok());
  const Membership next = WithInSync(First(), {std::string(32, 'a')}, 2, 1000);
  EXPECT_TRUE(absl::IsAborted(Swap(*witness, 0, 0, next)));
  EXPECT_TRUE(absl::IsAborted(Swap(*witness, 1, 1, next)));
  EXPECT_TRUE(absl::IsAborted(Swap(*witness, 0, 2, next)));
  EXPECT_EQ(Read(*witness).value(), First());
  Close(*witness);
}

TEST_F(FileWitnessTest, IsHeldByOneAtATime) {  // R26
  auto witness = MustOpen();
  EXPECT_TRUE(absl::IsFailedPrecondition(Open().status()));
  Close(*witness);
  auto second = MustOpen();
  Close(*second);
}

TEST_F(FileWitnessTest, AMissingDirectoryIsNotMade) {
  const absl::StatusOr<std::unique_ptr<FileWitness>> witness =
      executor_.Run(FileWitness::Open(directory_ + "/nothing", &offload_));
  EXPECT_TRUE(absl::IsNotFound(witness.status()));
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/nothing"));
}

TEST_F(FileWitnessTest, WhatACrashLeftBesideItIsNotRead) {
  WriteFile("witness", EncodeWitness(First()));
  WriteFile("witness.new",
            EncodeWitness(WithInSync(First(), {std::string(32, 'a')}, 2, 1000)).substr(0, 50));
  auto witness = MustOpen();
  EXPECT_EQ(Read(*witness).value(), First());
  const Membership next = WithInSync(First(), {std::string(32, 'a')}, 2, 1000);
  ASSERT_TRUE(Swap(*witness, 0, 1, next).ok());
  EXPECT_EQ(Read(*witness).value(), next);
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/witness.new"));
  Close(*witness);
}

TEST_F(FileWitnessTest, ADamagedFileIsNeitherBelievedNorReplaced) {
  const std::string torn = EncodeWitness(First()).substr(0, 60);
  WriteFile("witness", torn);
  auto witness = MustOpen();
  EXPECT_TRUE(absl::IsDataLoss(Read(*witness).status()));
  EXPECT_TRUE(absl::IsDataLoss(Swap(*witness, 0, 0, First())));
  EXPECT_TRUE(absl::IsDataLoss(Read(*witness).status()));
  Close(*witness);
}

TEST_F(FileWitnessTest, OnlyWhatIsDamagedOrGoneIsRestored) {
  WriteFile("witness", EncodeWitness(First()).substr(0, 60));
  auto witness = MustOpen();
  const Membership next = WithInSync(First(), {std::string(32, 'a')}, 2, 1000);
  ASSERT_TRUE(executor_.Run(witness->Restore(First())).ok());
  EXPECT_EQ(Read(*witness).value(), First());
  EXPECT_TRUE(absl::IsAborted(executor_.Run(witness->Restore(next))));
  EXPECT_EQ(Read(*witness).value(), First());
  std::filesystem::remove(directory_ + "/witness");
  ASSERT_TRUE(executor_.Run(witness->Restore(next)).ok());
  EXPECT_EQ(Read(*witness).value(), next);
  Close(*witness);
}

}  // namespace
}  // namespace twofold
