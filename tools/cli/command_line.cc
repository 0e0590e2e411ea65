#include "tools/cli/command_line.h"

#include <CLI/CLI.hpp>
#include <filesystem>
#include <functional>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "replication/pair/resync.h"
#include "replication/volume/names.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"
#include "tools/cli/console.h"
#include "tools/control/unix_socket.h"

namespace twofold::cli {
namespace {

constexpr char kFooter[] =
    "\nExit codes: 0 done, 1 failed, 2 wrong usage. Sizes: 512M, 10G, 2T (powers of 1024).\n"
    "`twofold COMMAND --help` explains a command; `man twofold` explains all.";

constexpr size_t kBenchDepthWithRate = 64;
constexpr uint64_t kMaxBenchBytes = uint64_t{256} << 20;  // of buffers
constexpr uint64_t kMaxBenchRate = 10'000'000;
constexpr uint64_t kMaxBenchSeconds = 86'400;

absl::Status CheckBench(const BenchLatencyCommand& bench) {
  if (bench.request_bytes == 0 || bench.request_bytes % kBlockSize != 0 ||
      bench.request_bytes > kMaxNbdRequestBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("--size must be a multiple of ", FormatSize(kBlockSize), " up to ",
                     FormatSize(kMaxNbdRequestBytes), "; it is ", FormatSize(bench.request_bytes)));
  }
  if (bench.depth == 0 || bench.depth > kMaxNbdRequestsPerConnection) {
    return absl::InvalidArgumentError(
        absl::StrCat("--depth must be from 1 to ", kMaxNbdRequestsPerConnection,
                     ", which is what the daemon works on at a time; it is ", bench.depth));
  }
  if (bench.depth * bench.request_bytes > kMaxBenchBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("--depth times --size must be at most ", FormatSize(kMaxBenchBytes)));
  }
  if (bench.read_percent > 100) {
    return absl::InvalidArgumentError("--read-share is percent: from 0 to 100");
  }
  // Written so that what is no number is refused too.
  if (!(bench.per_second >= 0 && bench.per_second <= kMaxBenchRate)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--rate must be from 0 (no rate) to ", kMaxBenchRate));
  }
  if (bench.seconds == 0 || bench.seconds > kMaxBenchSeconds) {
    return absl::InvalidArgumentError(
        absl::StrCat("--duration must be from 1 to ", kMaxBenchSeconds, " seconds"));
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> ParseVolumeSize(const std::string& text) {
  TF_ASSIGN_OR_RETURN(const uint64_t size_bytes, ParseSize(text));
  if (size_bytes == 0 || size_bytes > kMaxVolumeBytes || size_bytes % kBlockSize != 0) {
    const uint64_t rounded = (size_bytes / kBlockSize + 1) * kBlockSize;
    return absl::InvalidArgumentError(absl::StrCat(
        "SIZE ", text, " won't do: a volume has a multiple of ", kBlockSize, " bytes, from ",
        FormatSize(kBlockSize), " to ", FormatSize(kMaxVolumeBytes),
        size_bytes > 0 && rounded < kMaxVolumeBytes ? absl::StrCat("; the next is ", rounded)
                                                    : ""));
  }
  return size_bytes;
}

// The options and subcommands, and what the parser has put into them. Each leaf of the tree has a
// function that makes a command of that.
class Grammar {
 public:
  Grammar()
      : app_("Twofold: a block store that keeps each volume on two independent sets of disks.") {
    app_.name("twofold");
    app_.set_help_flag("-h,--help", "Explain, and exit");
    app_.set_version_flag("--version", "twofold " TWOFOLD_VERSION);
    app_.require_subcommand(1);
    app_.footer(kFooter);
    app_.get_formatter()->column_width(34);
    AddInit();
    AddServe();
    AddVolume();
    AddSnapshot();
    AddRollback();
    AddReplica();
    AddStatus();
    AddScrub();
    AddInspect();
    AddBench();
  }

  ParsedCommandLine Parse(std::vector<std::string> arguments) {
    ParsedCommandLine parsed;
    // Known before parsing, so that a complaint about the rest has the right form.
    for (const std::string& argument : arguments) parsed.json |= argument == "--json";
    // The parser takes them from the back.
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
    try {
      app_.parse(std::move(reversed));
    } catch (const CLI::CallForVersion& version) {
      parsed.text = absl::StrCat(version.what(), "\n");
      return parsed;
    } catch (const CLI::CallForHelp&) {
      parsed.text = Deepest()->help();
      return parsed;
    } catch (const CLI::RequiredError& error) {
      // A word that no command has leaves none that was given: the word is what is wrong.
      const std::vector<std::string> unknown = app_.remaining(true);
      parsed.error = Complain(
          unknown.empty() ? error.what() : absl::StrCat(unknown.front(), " is not known here"));
      return parsed;
    } catch (const CLI::ParseError& error) {
      parsed.error = Complain(error.what());
      return parsed;
    }
    const absl::StatusOr<Command> command = leaves_.at(Deepest())();
    if (command.ok()) {
      parsed.command_line = CommandLine{.command = *command, .json = json_};
    } else if (absl::IsInvalidArgument(command.status())) {
      parsed.error = Complain(command.status().message());
    } else {
      parsed.error = command.status();
    }
    return parsed;
  }

 private:
  using Command = decltype(CommandLine::command);

  // The subcommand that was meant, as far as the parser came.
  CLI::App* Deepest() {
    CLI::App* app = &app_;
    while (!app->get_subcommands().empty()) app = app->get_subcommands().front();
    return app;
  }

  absl::Status Complain(absl::string_view what) {
    std::string name = "twofold";
    for (CLI::App* app = &app_; !app->get_subcommands().empty();) {
      app = app->get_subcommands().front();
      absl::StrAppend(&name, " ", app->get_name());
    }
    return absl::InvalidArgumentError(
        absl::StrCat(what, "\nSee `", name, " --help` for how to call it."));
  }

  CLI::App* AddLeaf(CLI::App* parent, const std::string& name, const std::string& text,
                    std::function<absl::StatusOr<Command>()> make) {
    CLI::App* leaf = parent->add_subcommand(name, text);
    leaf->add_flag("--json", json_, "Write JSON for programs, errors too");
    leaf->get_formatter()->column_width(34);
    leaves_.emplace(leaf, std::move(make));
    return leaf;
  }
  CLI::App* AddNoun(const std::string& name, const std::string& text) {
    CLI::App* noun = app_.add_subcommand(name, text);
    noun->require_subcommand(1);
    noun->get_formatter()->column_width(34);
    return noun;
  }
  // A leaf that asks a daemon.
  CLI::App* AddClient(CLI::App* parent, const std::string& name, const std::string& text,
                      std::function<absl::StatusOr<control::Request>()> make) {
    CLI::App* leaf =
        AddLeaf(parent, name, text, [this, make = std::move(make)]() -> absl::StatusOr<Command> {
          TF_ASSIGN_OR_RETURN(control::Request request, make());
          ClientCommand command{.control_socket = "", .request = std::move(request)};
          TF_ASSIGN_OR_RETURN(command.control_socket, ControlSocketPath(control_));
          return command;
        });
    AddControl(leaf);
    return leaf;
  }
  void AddControl(CLI::App* leaf) {
    leaf->add_option("--control", control_,
                     absl::StrCat("The daemon's control socket; else $TWOFOLD_CONTROL, else ",
                                  control::kDefaultControlSocket))
        ->type_name("PATH");
  }

  void AddSets(CLI::App* leaf) {
    leaf->add_option("--set", sets_, "A set and its directories; two sets make a pool")
        ->type_name("NAME=DIR[,DIR...]")
        ->allow_extra_args(false);
    leaf->add_option("--witness", serve_.witness,
                     "Directory of the witness, in none of the sets. Default: `witness` in the "
                     "deepest directory that holds all sets")
        ->type_name("DIR");
  }
  absl::StatusOr<std::vector<SetSpec>> ParseSets() {
    std::vector<SetSpec> sets;
    for (const std::string& text : sets_) {
      TF_ASSIGN_OR_RETURN(sets.emplace_back(), ParseSetSpec(text));
    }
    return sets;
  }

  // ---- init ----
  void AddInit() {
    CLI::App* init = AddLeaf(&app_, "init", "Format two sets of empty directories: a new pool",
                             [this] { return MakeInit(); });
    AddSets(init);
    init->add_option("--size", sizes_,
                     "What a set, or each, may take of its disks, map included. Default: what is "
                     "free there; sets on one file system share it")
        ->type_name("[SET=]SIZE")
        ->allow_extra_args(false);
    init->add_option("--segment-size", segment_size_,
                     "Size of a log segment. Default: 64M, less on small stores")
        ->type_name("SIZE");
  }
  absl::StatusOr<Command> MakeInit() {
    InitCommand init;
    TF_ASSIGN_OR_RETURN(std::vector<SetSpec> sets, ParseSets());
    TF_ASSIGN_OR_RETURN(init.sets, CheckSets(std::move(sets)));
    TF_ASSIGN_OR_RETURN(init.witness, WitnessDirectory(init.sets, serve_.witness));
    if (!segment_size_.empty()) {
      TF_ASSIGN_OR_RETURN(const uint64_t bytes, ParseSize(segment_size_));
      if (bytes < kMinSegmentBytes || bytes > kMaxSegmentBytes || (bytes & (bytes - 1)) != 0) {
        return absl::InvalidArgumentError(absl::StrCat(
            "--segment-size must be a power of two from ", FormatSize(kMinSegmentBytes), " to ",
            FormatSize(kMaxSegmentBytes), "; it is ", segment_size_));
      }
      init.segment_bytes = bytes;
    }
    for (const std::string& text : sizes_) TF_RETURN_IF_ERROR(ParseInitSize(text, init));
    return init;
  }
  // "SIZE" for both sets, or "SET=SIZE".
  static absl::Status ParseInitSize(const std::string& text, InitCommand& init) {
    const std::vector<std::string> parts = absl::StrSplit(text, absl::MaxSplits('=', 1));
    TF_ASSIGN_OR_RETURN(const uint64_t bytes, ParseSize(parts.back()));
    bool known = false;
    for (const SetSpec& set : init.sets) {
      if (parts.size() == 2 && parts[0] != set.name) continue;
      known = true;
      if (!init.size_bytes.emplace(set.name, bytes).second) {
        return absl::InvalidArgumentError(absl::StrCat("--size is given twice for set ", set.name));
      }
    }
    if (known) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("--size ", text, " names a set that --set does not"));
  }

  // ---- serve ----
  void AddServe() {
    CLI::App* serve = AddLeaf(&app_, "serve", "Open a pool and serve its volumes over NBD",
                              [this] { return MakeServe(); });
    AddSets(serve);
    serve
        ->add_option("--nbd", serve_.nbd,
                     absl::StrCat("Where NBD clients connect; may be given several times. "
                                  "Default: ",
                                  kDefaultNbdEndpoint))
        ->type_name("HOST:PORT|unix:PATH")
        ->allow_extra_args(false);
    serve
        ->add_option("--control", serve_.control,
                     absl::StrCat("Control socket; else $TWOFOLD_CONTROL, else ",
                                  control::kDefaultControlSocket))
        ->type_name("unix:PATH");
    serve
        ->add_option("--metrics", serve_.metrics,
                     "Where Prometheus finds /metrics, over HTTP without any check of who asks. "
                     "Default: nowhere")
        ->type_name("HOST:PORT");
    serve->add_option("--config", config_, "TOML file with the same names; the command line wins")
        ->type_name("FILE");
    serve
        ->add_option("--memory", memory_,
                     absl::StrCat("Memory for payloads in flight. Default: ",
                                  FormatSize(kDefaultBufferPoolBytes)))
        ->type_name("SIZE");
    serve
        ->add_option("--map-cache", map_cache_,
                     absl::StrCat("Memory for each set's extent map. Default: ",
                                  FormatSize(kDefaultMapCacheBytes)))
        ->type_name("SIZE");
    serve
        ->add_option("--resync-rate", resync_rate_,
                     "What bringing a set level moves at most, a second. Default: no limit")
        ->type_name("SIZE");
    serve
        ->add_option("--log-level", serve_.log_level,
                     "debug, info, warning or error. Default: info")
        ->type_name("LEVEL");
    serve->add_flag("--new-witness", serve_.new_witness,
                    "The witness was lost: make a new one from what the sets have recorded. Every "
                    "set of the pool must be there");
    serve
        ->add_option(
            "--force-stale", serve_.force_stale,
            "Open with this set although it lacks acknowledged writes, which are given up; "
            "only when the other set is lost for good. Says first what that loses")
        ->type_name("SET");
    serve
        ->add_option("--replace", serve_.replace,
                     "This set is lost for good: make an empty store in its new --set directories, "
                     "which takes its place and is brought level")
        ->type_name("SET");
    serve->add_flag("--yes", serve_.yes, "Answer the question of --force-stale with yes");
  }
  absl::StatusOr<Command> MakeServe() {
    ServeCommand serve{.options = serve_, .config = config_};
    TF_ASSIGN_OR_RETURN(serve.options.sets, ParseSets());
    if (!memory_.empty()) {
      TF_ASSIGN_OR_RETURN(serve.options.memory_bytes, ParseSize(memory_));
    }
    if (!map_cache_.empty()) {
      TF_ASSIGN_OR_RETURN(serve.options.map_cache_bytes, ParseSize(map_cache_));
    }
    if (!resync_rate_.empty()) {
      TF_ASSIGN_OR_RETURN(serve.options.resync_rate, ParseSize(resync_rate_));
    }
    return serve;
  }

  // ---- volume ----
  void AddVolume() {
    CLI::App* noun = AddNoun("volume", "Create, list, show, resize and delete volumes");
    CLI::App* create = AddClient(noun, "create", "Make a volume; it takes no space until written",
                                 [this] { return MakeVolumeCreate(); });
    create->add_option("NAME", name_, "Its name")->required();
    create->add_option("SIZE", size_, "Its size, like 10G")->required();
    create
        ->add_option("--ack", ack_,
                     "durable: a write is answered when it is on stable storage in both sets "
                     "(default). written: when it has reached both; FLUSH makes it durable")
        ->type_name("durable|written");
    create
        ->add_option(
            "--on-set-loss", on_set_loss_,
            "continue: when a set is lost, go on with the other one (default). block: hold "
            "writes until it is back")
        ->type_name("continue|block");

    AddClient(noun, "list", "List the volumes", [] { return control::ListVolumes{}; });

    CLI::App* show =
        AddClient(noun, "show", "Show all about a volume, and what it and its snapshots use",
                  [this]() -> absl::StatusOr<control::Request> {
                    TF_RETURN_IF_ERROR(CheckName(name_));
                    return control::ShowVolume{.name = name_, .usage = !no_usage_};
                  });
    show->add_option("NAME", name_, "The volume")->required();
    show->add_flag("--no-usage", no_usage_,
                   "Don't count what is used, which takes a while where there is much");

    CLI::App* resize =
        AddClient(noun, "resize", "Change a volume's size", [this] { return MakeVolumeResize(); });
    resize->add_option("NAME", name_, "The volume")->required();
    resize->add_option("SIZE", size_, "The new size")->required();
    resize->add_flag("--force", force_, "Shrink too: what lies beyond the new end is lost");

    CLI::App* remove = AddClient(noun, "delete", "Delete a volume with all its data",
                                 [this]() -> absl::StatusOr<control::Request> {
                                   TF_RETURN_IF_ERROR(CheckName(name_));
                                   return control::DeleteVolume{.name = name_, .force = force_};
                                 });
    remove->add_option("NAME", name_, "The volume")->required();
    remove->add_flag("--force", force_,
                     "Also while clients are connected (they are disconnected), and with its "
                     "snapshots");
  }
  absl::StatusOr<control::Request> MakeVolumeCreate() {
    control::CreateVolume create;
    create.name = name_;
    TF_RETURN_IF_ERROR(CheckName(name_));
    TF_ASSIGN_OR_RETURN(create.size_bytes, ParseVolumeSize(size_));
    if (!ack_.empty()) {
      TF_ASSIGN_OR_RETURN(create.ack, ParseAckMode(ack_));
    }
    if (!on_set_loss_.empty()) {
      TF_ASSIGN_OR_RETURN(create.on_set_loss, ParseOnSetLoss(on_set_loss_));
    }
    return create;
  }
  absl::StatusOr<control::Request> MakeVolumeResize() {
    control::ResizeVolume resize;
    resize.name = name_;
    resize.force = force_;
    TF_RETURN_IF_ERROR(CheckName(name_));
    TF_ASSIGN_OR_RETURN(resize.size_bytes, ParseVolumeSize(size_));
    return resize;
  }

  // ---- snapshot, rollback, status ----
  void AddSnapshot() {
    CLI::App* noun = AddNoun("snapshot", "Create, list and delete snapshots");
    AddClient(noun, "create", "Freeze volumes; several at once freeze at one instant",
              [this] { return MakeSnapshotCreate(); })
        ->add_option("VOL@SNAP", names_, "The volume and the snapshot's name")
        ->required();
    CLI::App* list = AddClient(noun, "list", "List the snapshots of a volume, or of all",
                               [this]() -> absl::StatusOr<control::Request> {
                                 control::ListSnapshots request{.volume = {}, .usage = usage_};
                                 if (!name_.empty()) {
                                   TF_RETURN_IF_ERROR(CheckName(name_));
                                   request.volume = name_;
                                 }
                                 return request;
                               });
    list->add_option("VOL", name_, "Only of this volume");
    list->add_flag("--usage", usage_,
                   "Count what each one holds, and what deleting it alone gives back");
    AddClient(noun, "delete", "Delete a snapshot; what only it holds is freed",
              [this]() -> absl::StatusOr<control::Request> {
                TF_RETURN_IF_ERROR(SnapshotName::Parse(name_).status());
                return control::DeleteSnapshot{name_};
              })
        ->add_option("VOL@SNAP", name_, "The snapshot")
        ->required();
  }
  absl::StatusOr<control::Request> MakeSnapshotCreate() {
    std::set<std::string> volumes;
    if (names_.size() > kMaxGroupMembers) {
      return absl::InvalidArgumentError(
          absl::StrCat("at most ", kMaxGroupMembers, " snapshots at once"));
    }
    for (const std::string& text : names_) {
      TF_ASSIGN_OR_RETURN(const SnapshotName name, SnapshotName::Parse(text));
      if (volumes.insert(name.volume).second) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("volume ", name.volume, " is named twice; one instant gives one snapshot"));
    }
    return control::CreateSnapshots{names_};
  }

  void AddRollback() {
    CLI::App* rollback = AddClient(&app_, "rollback",
                                   "Take a volume back to a snapshot; what it held is kept as one",
                                   [this]() -> absl::StatusOr<control::Request> {
                                     TF_RETURN_IF_ERROR(SnapshotName::Parse(name_).status());
                                     return control::Rollback{.snapshot = name_, .force = force_};
                                   });
    rollback->add_option("VOL@SNAP", name_, "The snapshot to go back to")->required();
    rollback->add_flag("--force", force_,
                       "Also while clients are connected; they are disconnected");
  }

  // ---- replica ----
  void AddReplica() {
    CLI::App* noun = AddNoun("replica", "List the sets, take one out, bring one back, replace one");
    AddClient(noun, "list", "List the sets: state, up to where they have everything, since when",
              [] { return control::ListReplicas{}; });
    AddReplicaVerb<control::AttachReplica>(
        noun, "attach", "Bring a set back that is away: open it and bring it level");
    AddReplicaVerb<control::DetachReplica>(
        noun, "detach", "Take a set out; the pool goes on with the other one, degraded");
    CLI::App* replace = AddClient(
        noun, "replace", "Put empty directories in the place of a set that is away, and fill them",
        [this] { return MakeReplicaReplace(); });
    replace->add_option("SET", name_, "The set")->required();
    replace->add_option("DIRS", size_, "Its new directories, DIR[,DIR...], empty or not there yet")
        ->required();
    AddClient(noun, "rate", "Set what bringing a set level moves at most, a second",
              [this]() -> absl::StatusOr<control::Request> {
                control::SetResyncRate rate;
                if (size_ != "unlimited") {
                  TF_ASSIGN_OR_RETURN(rate.bytes_per_second, ParseSize(size_));
                }
                TF_RETURN_IF_ERROR(CheckResyncRate(rate.bytes_per_second));
                return rate;
              })
        ->add_option("SIZE", size_, "Like 200M; or `unlimited`")
        ->required();
  }
  template <typename Verb>
  void AddReplicaVerb(CLI::App* noun, const std::string& name, const std::string& text) {
    AddClient(noun, name, text,
              [this]() -> absl::StatusOr<control::Request> {
                TF_RETURN_IF_ERROR(CheckName(name_));
                return Verb{name_};
              })
        ->add_option("SET", name_, "The set")
        ->required();
  }
  absl::StatusOr<control::Request> MakeReplicaReplace() {
    TF_ASSIGN_OR_RETURN(SetSpec set, ParseSetSpec(absl::StrCat(name_, "=", size_)));
    control::ReplaceReplica replace{.set = set.name, .directories = {}};
    // The daemon has another working directory.
    for (const std::string& directory : set.directories) {
      std::error_code error;
      const std::filesystem::path path = std::filesystem::absolute(directory, error);
      if (error) return absl::InvalidArgumentError(absl::StrCat(directory, ": ", error.message()));
      replace.directories.push_back(path.lexically_normal().string());
    }
    return replace;
  }

  void AddStatus() {
    AddClient(&app_, "status", "Show how the pool and its sets are",
              [this] { return control::GetStatus{.usage = usage_}; })
        ->add_flag("--usage", usage_,
                   "Count now what the volumes and their history use. Default: the last count");
    AddClient(&app_, "latency", "Show how long each stage of the clients' requests takes",
              [] { return control::GetLatency{}; });
    AddClient(&app_, "metrics", "Write all numbers as text for Prometheus",
              [] { return control::GetMetrics{}; });
  }

  // ---- scrub ----
  void AddScrub() {
    CLI::App* scrub =
        AddLeaf(&app_, "scrub", "Read and verify all data of a set, or compare the two sets",
                [this] { return MakeScrub(); });
    AddControl(scrub);
    scrub->add_option("SET", name_, "Only this set. Default: every set that is in-sync");
    CLI::Option* rate =
        scrub
            ->add_option("--rate", rate_,
                         absl::StrCat("Bytes a second that are read at most; 0: no limit. Also of "
                                      "a pass that is under way. Default: ",
                                      FormatSize(kDefaultScrubBytesPerSecond)))
            ->type_name("SIZE");
    CLI::Option* compare =
        scrub
            ->add_flag("--compare", compare_,
                       "Compare what the two sets' maps say of each volume and snapshot, without "
                       "reading data")
            ->excludes(rate);
    CLI::Option* background =
        scrub->add_flag("--background", background_,
                        "Don't wait for the end; `twofold status` shows how far it is");
    scrub->add_flag("--stop", stop_, "End the passes that are under way")
        ->excludes(rate)
        ->excludes(compare)
        ->excludes(background);
  }
  absl::StatusOr<Command> MakeScrub() {
    ScrubCommand scrub;
    if (stop_) scrub.mode = ScrubCommand::Mode::kStop;
    if (background_) scrub.mode = ScrubCommand::Mode::kBackground;
    scrub.request.compare = compare_;
    if (!name_.empty()) {
      TF_RETURN_IF_ERROR(CheckName(name_));
      if (compare_) {
        return absl::InvalidArgumentError("--compare is of both sets: it goes without SET");
      }
      scrub.request.set = name_;
    }
    if (!rate_.empty()) {
      TF_ASSIGN_OR_RETURN(scrub.request.bytes_per_second, ParseSize(rate_));
    }
    TF_ASSIGN_OR_RETURN(scrub.control_socket, ControlSocketPath(control_));
    return scrub;
  }

  // ---- inspect ----
  void AddInspect() {
    CLI::App* inspect =
        AddLeaf(&app_, "inspect", "Look into one set offline, with its daemon stopped",
                [this]() -> absl::StatusOr<Command> {
                  InspectCommand command{.directories = names_};
                  if (verify_) command.mode = InspectCommand::Mode::kVerify;
                  if (dump_) command.mode = InspectCommand::Mode::kDump;
                  if (rebuild_map_) command.mode = InspectCommand::Mode::kRebuildMap;
                  return command;
                });
    inspect->add_option("DIR", names_, "All the directories of one set")->required();
    CLI::Option* verify = inspect->add_flag(
        "--verify", verify_,
        "Read every block and check it; recount the space. Prints a digest of each volume and "
        "snapshot, by which two sets can be compared");
    CLI::Option* dump =
        inspect->add_flag("--dump", dump_, "Print every structure on disk, a line each")
            ->excludes(verify);
    inspect
        ->add_flag("--rebuild-map", rebuild_map_,
                   "Make the set's map anew from its log. Serving does it by itself where the map "
                   "is lost or does not open")
        ->excludes(verify)
        ->excludes(dump);
  }

  // ---- bench ----
  void AddBench() {
    CLI::App* noun = AddNoun("bench", "Measure a volume as its clients see it");
    CLI::App* leaf =
        AddLeaf(noun, "latency", "Read and write random places over NBD; show where the time goes",
                [this] { return MakeBenchLatency(); });
    AddControl(leaf);
    leaf->add_option("VOL", name_, "The volume")->required();
    leaf->add_option("--size", size_, "Of a request, a multiple of 4K. Default: 4K")
        ->type_name("SIZE");
    depth_ = leaf->add_option("--depth", bench_.depth,
                              "Requests in flight, at most. Default: 1; with --rate 64")
                 ->type_name("N");
    leaf->add_option("--read-share", bench_.read_percent,
                     "Percent of the requests that read. Default: 0")
        ->type_name("P");
    leaf->add_option("--rate", bench_.per_second,
                     "Requests a second, at fixed times: latency counts from when a request was "
                     "due, also where it had to wait for those before it. Default: each as soon as "
                     "one before it is answered")
        ->type_name("IOPS");
    leaf->add_option("--duration", bench_.seconds, "For how long. Default: 10")->type_name("S");
    leaf->add_option("--svg", bench_.svg, "Also draw the latencies over the percentiles")
        ->type_name("FILE");
    leaf->add_flag("--force", bench_.force,
                   "Write over what the volume has, or beside its clients");
  }
  absl::StatusOr<Command> MakeBenchLatency() {
    BenchLatencyCommand bench = bench_;
    TF_RETURN_IF_ERROR(CheckName(name_));
    bench.volume = name_;
    if (!size_.empty()) {
      TF_ASSIGN_OR_RETURN(bench.request_bytes, ParseSize(size_));
    }
    if (depth_->count() == 0 && bench.per_second > 0) bench.depth = kBenchDepthWithRate;
    TF_RETURN_IF_ERROR(CheckBench(bench));
    TF_ASSIGN_OR_RETURN(bench.control_socket, ControlSocketPath(control_));
    return bench;
  }

  CLI::App app_;
  std::map<CLI::App*, std::function<absl::StatusOr<Command>()>> leaves_;

  // What the parser fills in; a leaf uses what it has declared.
  bool json_ = false;
  bool force_ = false;
  bool usage_ = false;
  bool no_usage_ = false;
  bool verify_ = false;
  bool dump_ = false;
  bool compare_ = false;
  bool background_ = false;
  bool stop_ = false;
  std::string rate_;
  bool rebuild_map_ = false;
  std::string control_;
  std::string name_;
  std::string size_;
  std::string ack_;
  std::string on_set_loss_;
  std::vector<std::string> names_;
  std::vector<std::string> sets_;
  std::vector<std::string> sizes_;
  std::string segment_size_;
  std::string config_;
  std::string memory_;
  std::string map_cache_;
  std::string resync_rate_;
  ServeOptions serve_;
  BenchLatencyCommand bench_;
  CLI::Option* depth_ = nullptr;
};

}  // namespace

ParsedCommandLine ParseCommandLine(const std::vector<std::string>& arguments) {
  return Grammar().Parse(arguments);
}

}  // namespace twofold::cli
